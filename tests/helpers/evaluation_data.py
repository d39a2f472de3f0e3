"""Data sets of coloured pictures whose right answers are known, for the evaluate step."""

import hashlib
import json
from pathlib import Path

import pyarrow
from pyarrow import parquet

from components.artifacts import records
from tests.helpers.colour_model import COLOURS, picture

LABELS = list(COLOURS)


def write_dataset(directory: Path, objects: list[tuple[str, str]], labels: list[str] | None = None) -> str:
    """Writes a data set whose test split shows `objects`: (the colour shown, the label it carries)."""
    labels = labels or LABELS
    directory.mkdir(parents=True, exist_ok=True)
    path = str(directory / "test-00000-of-00001.tfrecord")
    rows = []
    with records.RecordWriter(path) as writer:
        for number, (shown, label) in enumerate(objects):
            span = writer.write(records.encode(_record(number, shown, label, labels)))
            rows.append(_row(number, label, labels, path) | vars(span))
    split = {"examples": len(rows), "per_class": [sum(r["label"] == name for r in rows) for name in labels]}
    size = Path(path).stat().st_size
    split["files"] = [{"uri": path, "examples": len(rows), "records": len(rows), "bytes": size}] if rows else []
    content = {"format": 1, "snapshot": "5" * 64, "labels": labels, "stored_size": 64, "splits": {"test": split}}
    content |= {"excluded": [], "parameters": {}, "check": {"outcome": "ok", "reasons": []}}
    (directory / "dataset.json").write_text(json.dumps(content))
    row = _row(0, labels[0], labels, path) | {"position": 0, "offset": 0, "length": 0}
    schema = pyarrow.Table.from_pylist([row]).schema
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), directory / "examples.parquet")
    return str(directory)


def _record(number: int, shown: str, label: str, labels: list[str]) -> records.Record:
    data = picture(shown, seed=number)
    digest = hashlib.sha256(data).hexdigest()
    return records.Record(f"object-{number}", label, labels.index(label), data, 60, 80, digest)


def _row(number: int, label: str, labels: list[str], path: str) -> dict:
    return {
        "object_id": f"object-{number}", "label": label, "label_index": labels.index(label), "split": "test",
        "kept": True, "reason": "", "group": f"group-{number // 2}", "title": f"Picture <{number}>", "artist": "",
        "link": f"https://museum.example/{number}", "rights": "Public domain", "meta_period": f"century {number % 2}",
        "original_width": 200 + 300 * (number % 3), "original_height": 1000, "record_uri": path,
    }  # fmt: skip
