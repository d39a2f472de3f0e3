"""Builds what the fetch step hands over (tar and log), and runs convert and assemble on it."""

import hashlib
import io
import json
import os
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from components.assemble.assembler import AssembleSummary, assemble_dataset
from components.assemble.settings import Settings
from components.convert.converter import convert_shard
from components.shared import hashing, imaging

OBJECT_COLUMNS = ("title", "artist", "rights", "credit", "link", "group")
LOG_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("object_id", "label", "split", "image_uri", *OBJECT_COLUMNS, "status")]
    + [(name, pa.int32()) for name in ("label_index", "shard", "http_status", "attempts", "width", "height")]
    + [("bytes", pa.int64()), ("sha256", pa.string()), ("seconds", pa.float64()), ("message", pa.string())]
    + [("encoded_sha256", pa.string()), ("thumbnail", pa.binary())]
)


@dataclass
class Item:
    """An object of a test collection; without a picture it is one that failed with `status`.

    `jpeg` is what was fetched, `in_shard` what the tar has of it if that is something else.
    """

    object_id: str
    label: str
    split: str
    jpeg: bytes = b""
    status: str = "ok"
    columns: dict = field(default_factory=dict)
    in_shard: bytes | None = None


def drawing(seed: int, size: tuple[int, int] = (160, 128)) -> Image.Image:
    """A picture that has structure at all scales and differs from that of any other seed."""
    rng = np.random.default_rng(seed)
    layers = [
        Image.fromarray(rng.integers(0, 256, (n, n, 3), np.uint8)).resize(size, Image.BICUBIC) for n in (3, 6, 12)
    ]
    return Image.fromarray(np.mean([np.asarray(layer, np.float32) for layer in layers], axis=0).astype(np.uint8))


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def stored(image: Image.Image, size: int = 128, quality: int = 90) -> bytes:
    """The picture as the fetch step stores it."""
    scale = size / min(image.size)
    shape = tuple(max(size, round(side * scale)) for side in image.size)
    return jpeg(image.convert("RGB").resize(shape, Image.Resampling.LANCZOS), quality)


def thumbnail(jpeg: bytes) -> bytes:
    """The thumbnail that the fetch step takes of a stored picture."""
    return hashing.thumbnail(imaging.decode(jpeg))


def write_shard(folder: Path, shard: str, items: list[Item], labels: list[str]) -> None:
    """`images-<shard>.tar` and `fetch-log.parquet` in `folder`."""
    os.makedirs(folder, exist_ok=True)
    rows = [_row(item, labels) for item in items]
    with tarfile.open(folder / f"images-{shard}.tar", "w") as tar:
        for item in items:
            picture = item.jpeg if item.in_shard is None else item.in_shard
            if picture:
                _add(tar, f"{item.object_id}.jpg", picture)
                _add(tar, f"{item.object_id}.json", json.dumps(item.columns).encode())
    # In row groups as fetch writes them: a reader holds one of them.
    log = LOG_SCHEMA.with_metadata({"parameters": '{"image_size": 128, "jpeg_quality": 90, "respect_robots": true}'})
    pq.write_table(pa.Table.from_pylist(rows, log), folder / "fetch-log.parquet", row_group_size=1024)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _row(item: Item, labels: list[str]) -> dict:
    row = dict.fromkeys(OBJECT_COLUMNS, "") | {"title": f"Title of {item.object_id}", "group": item.object_id}
    ok = item.status == "ok"
    return row | {
        "object_id": item.object_id,
        "label": item.label,
        "label_index": labels.index(item.label),
        "split": item.split,
        "shard": 0,
        "image_uri": f"https://example.org/{item.object_id}.jpg",
        "status": item.status,
        "http_status": 200 if ok else 404,
        "attempts": 1,
        "bytes": len(item.jpeg) if ok else None,
        "width": 640 if ok else None,
        "height": 480 if ok else None,
        "sha256": hashlib.sha256(b"original " + item.jpeg).hexdigest() if ok else None,
        "seconds": 0.1,
        "message": "" if ok else "not found",
        "encoded_sha256": hashlib.sha256(item.jpeg).hexdigest() if ok else None,
        "thumbnail": thumbnail(item.jpeg) if ok and item.jpeg else None,
        **item.columns,
    }


def settings(**changes: object) -> Settings:
    values = {
        "conflicts": "exclude",
        "duplicate_distance": 8,
        "min_examples_per_class": 1,
        "min_eval_examples_per_class": 1,
        "max_imbalance": 100.0,
        "max_failed_fraction": 0.5,
        "max_enlarged_fraction": 0.5,
        "expected_classes": "",
        "previous_dataset": "",
        "max_drift": 0.25,
    }
    return Settings(**(values | changes))


@dataclass(frozen=True)
class Assembled:
    """A test data set: the folder of dataset.json, its report, and the step's summary."""

    dataset: Path
    report: Path
    summary: AssembleSummary


def assemble(root: Path, items: list[Item], shards: int = 1, reverse: bool = False, **changes: object) -> Assembled:
    """Converts `items` in so many shards and assembles them below `root`."""
    labels = sorted({item.label for item in items})
    indexes = []
    for number in range(shards):
        name = f"{number:05d}-of-{shards:05d}"
        folder = root / name
        write_shard(folder / "images", name, items[number::shards], labels)
        indexes.append(str(folder / "index"))
        convert_shard(name, str(folder / "images"), str(folder / "records"), str(folder / "records"), indexes[-1])
    pq.write_table(pa.Table.from_pylist([_row(item, labels) for item in items], LOG_SCHEMA), root / "objects")
    (root / "labels").write_text("".join(f"{label}\n" for label in labels))
    paths = indexes[::-1] if reverse else indexes
    dataset, report = root / "dataset", root / "report.html"
    arguments = paths, str(root / "objects"), str(root / "labels"), str(dataset), str(report), settings(**changes)
    return Assembled(dataset, report, assemble_dataset(*arguments))
