"""All shards' suggestions as one table (parquet and CSV), the failures, the annotations and the report."""

import csv
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.annotate.publish import label_next, page, web_annotations
from components.annotate.thumbnails import unsure_first
from components.artifacts import suggestions
from components.artifacts.image_shard import OK
from components.shared.errors import PipelineError

# What a spreadsheet would take for a formula begins so.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Published:
    """What was suggested: images of each label, how many are uncertain, how many unlike, why others have no image."""

    labels: dict[str, int]
    uncertain: int
    unlike: int
    failures: dict[str, int]
    model: str

    @property
    def suggested(self) -> int:
        """Objects with an image: each has a suggestion."""
        return sum(self.labels.values()) + self.uncertain

    def metadata(self) -> dict[str, int]:
        """Flat numbers for the run's page."""
        certain = sum(self.labels.values())
        numbers = {"suggestions": self.suggested, "of_one_label": certain, "uncertain": self.uncertain}
        return numbers | {"unlike": self.unlike, "failed": sum(self.failures.values())}

    def __str__(self) -> str:
        failed = sum(self.failures.values())
        text = (
            f"{self.suggested:,} suggestions: {sum(self.labels.values()):,} of one label, {self.uncertain:,} uncertain"
        )
        return text + (f"; {failed:,} objects have no picture ({suggestions.FAILURES})" if failed else "")


def publish_parts(parts: Sequence[str], output: str, report: str) -> Published:
    """Writes what components.artifacts.suggestions says into the local folder `output`, and the page `report`.

    Raises:
        PipelineError: there is no part, or one is damaged.
    """
    table, labels = _read(parts)
    os.makedirs(output, exist_ok=True)
    done = table.filter(pa.array([status == OK for status in table["status"].to_pylist()], pa.bool_()))
    failed = table.filter(pa.array([status != OK for status in table["status"].to_pylist()], pa.bool_()))
    columns = (done[name].to_pylist() for name in ("label", "probability", "object_id"))
    done = _taken(done, unsure_first(*columns))
    kept = done.select(suggestions.schema().names)
    pq.write_table(kept, os.path.join(output, suggestions.PARQUET), compression="zstd")
    _write_csv(os.path.join(output, suggestions.CSV), suggestions.schema().names, _rows(kept))
    _write_csv(os.path.join(output, suggestions.FAILURES), suggestions.FAILURE_COLUMNS, _rows(failed))
    next_ = _taken(done, label_next.rows(done, suggestions.LABEL_NEXT_COUNT))
    _write_csv(os.path.join(output, suggestions.LABEL_NEXT), suggestions.LABEL_NEXT_COLUMNS, _rows(next_))
    web_annotations.write(os.path.join(output, suggestions.JSON_LD), _rows(kept))
    published = _counted(done, failed)
    page.write(published, (done, failed, next_), labels, report)
    return published


def _taken(table: pa.Table, rows: list[int]) -> pa.Table:
    return table.take(pa.array(rows, pa.int64()))  # a list without numbers would have no type


def _read(parts: Sequence[str]) -> tuple[pa.Table, list[str]]:
    """The rows of all parts, and the classes of the model."""
    try:
        tables = [pq.read_table(os.path.join(part, suggestions.PART)) for part in parts]
    except (OSError, pa.ArrowInvalid) as error:
        raise PipelineError(f"cannot read the suggestions of a shard: {error}; run annotate again") from error
    if not tables:
        raise PipelineError("there is no shard of suggestions: no object was taken")
    labels = list(dict.fromkeys(label for table in tables for label in suggestions.labels_of(table.schema)))
    return pa.concat_tables([table.replace_schema_metadata(None) for table in tables]), labels


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=1024):
        yield from batch.to_pylist()


def _write_csv(path: str, names: Sequence[str], rows: Iterator[dict[str, Any]]) -> None:
    with open(path, "w", encoding="utf-8-sig", newline="") as file:  # with a mark, by which Excel knows UTF-8
        writer = csv.writer(file)
        writer.writerow(names)
        for row in rows:
            writer.writerow([_cell(row[name]) for name in names])


def _cell(value: object) -> object:
    if isinstance(value, list):
        value = suggestions.LIST_SEPARATOR.join(value)
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else value


def _counted(done: pa.Table, failed: pa.Table) -> Published:
    labels = Counter(label for label in done["label"].to_pylist() if label is not None)
    model = done["model"][0].as_py() if len(done) else ""
    return Published(
        labels=dict(labels.most_common()),
        uncertain=len(done) - labels.total(),
        unlike=sum(map(bool, done["unlike"].to_pylist())),
        failures=dict(Counter(failed["status"].to_pylist()).most_common()),
        model=model,
    )
