"""The data report: how the collection became a data set, for a curator's eyes."""

from typing import Any

import pyarrow as pa

from components.assemble.duplicates import Pairs
from components.shared import storage
from components.shared.report import Picture, Report, bars, notice, pictures, table


def write_report(path: str, content: dict[str, Any], examples: pa.Table, objects: pa.Table, pairs: Pairs) -> None:
    """Writes the report of the data set `content` (dataset.json) with its `examples` (examples.parquet)."""
    splits = content["splits"]
    total = sum(split["examples"] for split in splits.values())
    report = Report("Data set", facts={"objects": len(objects), "examples": total, "classes": len(content["labels"])})
    report.section("Check", *[notice(reason, content["check"]["outcome"]) for reason in content["check"]["reasons"]])
    rows = list(zip(content["labels"], *[split["per_class"] for split in splits.values()]))
    report.section("Classes and splits", table(["class", *splits], rows))
    kept = examples.filter(examples["kept"]).to_pylist()
    for label in content["labels"]:
        chosen = [row for row in kept if row["label"] == label][:12]
        report.section(label, pictures([Picture(_encoded(row), row["title"] or "") for row in chosen]))
    report.save(path)


def _encoded(row: dict[str, Any]) -> bytes:
    from components.shared import records

    return records.decode(storage.read_bytes(row["record_uri"], row["offset"], row["length"])).encoded
