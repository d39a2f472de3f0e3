"""Reads every record file of a data set again and checks all that can be checked."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from components.artifacts import dataset, records
from components.shared.errors import PipelineError

_COLUMNS = ("object_id", "split", "label_index", "encoded_sha256", "kept", "record_uri", "position")


@dataclass(frozen=True)
class Verification:
    """How much was read, and what is wrong: a line for each fault, with file and position."""

    files: int
    records: int
    bytes: int
    faults: tuple[str, ...]


def verify(info: dataset.DatasetInfo, examples: pa.Table, advance: Callable[[], None] = lambda: None) -> Verification:
    """Checks framing, both checksums of each record, that each is the one which `examples` (examples.parquet) has at
    its place, the counts, and the snapshot. Faults are collected, not raised; `advance` is called after each file."""
    check = _Check(info, examples)
    files = [(name, file) for name, split in info.splits.items() for file in split.files]
    for name, file in files:
        check.file(name, file)
        advance()
    check.whole()
    return Verification(len(files), check.records, check.bytes, tuple(check.faults))


class _Check:
    """What was found so far."""

    def __init__(self, info: dataset.DatasetInfo, examples: pa.Table) -> None:
        self.info = info
        self.records = self.bytes = 0
        self.faults: list[str] = []
        self._places: dict[str, dict[int, tuple]] = defaultdict(dict)
        for *row, uri, position in zip(*(examples[name].to_pylist() for name in _COLUMNS)):
            if uri:
                self._places[uri][position] = tuple(row)
        self._seen: dict[str, tuple[str, int, str]] = {}

    def file(self, split: str, file: dataset.RecordFile) -> None:
        """Reads a record file of `split`. A damaged record is passed over, as long as its length is known."""
        places = self._places.pop(file.uri, {})
        count = kept = damaged = 0

        def note(error: records.RecordError) -> None:
            nonlocal damaged
            damaged += 1
            self.faults.append(str(error))

        try:
            for span, record in dataset.read_file(file.uri, note):
                count, self.bytes = count + 1, self.bytes + span.length
                where = f"{file.uri}: record {span.position} (at byte {span.offset})"
                row = places.get(span.position)
                self.faults += [f"{where}: {fault}" for fault in self._record_faults(record, split, row)]
                if row is None or row[-1]:
                    kept += 1
                    self._seen[record.object_id] = (split, record.label_index, record.sha256)
        except PipelineError as error:
            # What follows a damaged length cannot be found: the file ends here.
            self.faults.append(str(error))
            return
        finally:
            self.records += count
        if not damaged and (count, kept) != (file.records, file.examples):
            self.faults.append(
                f"{file.uri}: {count} records, {kept} of them examples; "
                f"dataset.json says {file.records} and {file.examples}"
            )

    def whole(self) -> None:
        """What only the whole set shows; after other faults it would only repeat them."""
        for uri in self._places:
            self.faults.append(f"{uri}: examples.parquet has records there; dataset.json does not name the file")
        if self.faults:
            return
        found = dataset.snapshot(self.info.labels, ((name, *self._seen[name]) for name in sorted(self._seen)))
        if found != self.info.snapshot:
            self.faults.append(f"the snapshot of the records is {found}; dataset.json says {self.info.snapshot}")

    def _record_faults(self, record: dataset.Example, split: str, row: tuple | None) -> list[str]:
        faults, labels = [], self.info.labels
        try:
            records.verify(record)
        except records.RecordError as error:
            faults.append(str(error))
        if not 0 <= record.label_index < len(labels) or labels[record.label_index] != record.label:
            faults.append(f"label {record.label_index} is not {record.label!r} in labels")
        if record.object_id in self._seen:
            other = self._seen[record.object_id][0]
            faults.append(
                f"object {record.object_id} occurs twice" + (f", in {other} and {split}" if other != split else "")
            )
        found = (record.object_id, split, record.label_index, record.sha256)
        if row is None:
            faults.append(f"object {record.object_id} is not in examples.parquet at this place")
        elif found != row[:-1]:
            named = zip(("object", "split", "label", "sha256"), found, row)
            faults += [f"{name} is {got}, examples.parquet says {said}" for name, got, said in named if got != said]
        return faults
