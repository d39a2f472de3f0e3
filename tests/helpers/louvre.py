"""Paintings of the Louvre and other real pictures for tests, where the data are there; see ../shared/data's README."""

import csv
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

FOLDER = Path(__file__).parents[2] / ".." / "shared" / "data" / "louvre"
needs_louvre = pytest.mark.skipif(not FOLDER.is_dir(), reason="../shared/data/louvre is not there")


@cache
def paintings(count: int = 0) -> list[tuple[str, str, Path]]:
    """(object id, class, file) of the first `count` paintings, 0 for all."""
    with open(FOLDER / "objects.csv", encoding="utf-8") as file:
        labels = {row["object_id"]: row["classification"] for row in csv.DictReader(file)}
    with open(FOLDER / "images.csv", encoding="utf-8") as file:
        rows = [(row["object_id"], row["original_image_url"]) for row in csv.DictReader(file)]
    return [(object_id, labels[object_id], FOLDER / path) for object_id, path in rows][: count or None]


def picture(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def objects() -> list[Path]:
    """The pictures of 153 objects of The Met, of all departments."""
    return sorted((FOLDER.parent / "met_sample" / "images").rglob("*.jpg"))


def photographs() -> list[Path]:
    """1,670 photographs of animals, houses, guitars and people."""
    return sorted((FOLDER.parent / "pacs_photo").rglob("*.jpg"))
