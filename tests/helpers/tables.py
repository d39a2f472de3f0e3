"""Small collections for the tests, written to files."""

import csv
from pathlib import Path

import pyarrow.parquet

from components.query.selection import Settings, select
from components.query.summary import Selection

NO_LIMITS = {"source": "table", "label": "culture", "min_images_per_class": 1, "shards": 3}


def write_csv(path: Path, rows: list[dict]) -> str:
    """Writes `rows` with the columns of the first one; returns the path."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def objects(number: int, cultures: tuple[str, ...] = ("French", "Japan"), **columns: object) -> list[dict]:
    """Objects with ids from 1, their cultures in turn, each with a picture."""
    return [
        {
            "object_id": index + 1,
            "culture": cultures[index % len(cultures)],
            "original_image_url": f"http://museum.test/{index + 1}.jpg",
            **columns,
        }
        for index in range(number)
    ]


def run(folder: Path, **settings: object) -> tuple[Selection, list[dict]]:
    """Selects with `settings` on top of NO_LIMITS; returns the selection and the rows of objects.parquet."""
    target = folder / "objects"
    selection = select(
        Settings(**{**NO_LIMITS, **settings}), str(target), str(folder / "labels"), str(folder / "profile")
    )
    return selection, pyarrow.parquet.read_table(target).to_pylist()
