"""Reads every record file of a data set again and checks all that can be checked."""

from dataclasses import dataclass

from components.shared import dataset, records
from components.shared.errors import PipelineError
from components.shared.progress import Progress


@dataclass(frozen=True)
class Verification:
    """How much was read, and what is wrong: a line for each fault, with file and position."""

    files: int
    records: int
    bytes: int
    faults: tuple[str, ...]


def verify(info: dataset.DatasetInfo) -> Verification:
    """Checks framing, both checksums of each record, labels, splits and counts. Faults are collected, not raised."""
    faults: list[str] = []
    count = size = 0
    progress = Progress(sum(len(split.files) for split in info.splits.values()), "record files")
    for name, split in info.splits.items():
        excluded = info.excluded_ids(name)
        seen: set[str] = set()
        for file in split.files:
            found = _verify_file(file, info, excluded, seen, faults)
            count, size = count + found[0], size + found[1]
            progress.update()
        if not faults and len(seen) != split.examples:
            faults.append(f"{name}: {len(seen)} examples, dataset.json says {split.examples}")
    return Verification(sum(len(split.files) for split in info.splits.values()), count, size, tuple(faults))


def _verify_file(
    file: dataset.RecordFile, info: dataset.DatasetInfo, excluded: frozenset[str], seen: set[str], faults: list[str]
) -> tuple[int, int]:
    """Records and bytes of `file`; adds its examples to `seen`."""
    count = size = kept = 0
    try:
        for span, record in dataset.read_file(file.uri):
            count, size = count + 1, size + span.length
            where = f"{file.uri}: record {span.position} (at byte {span.offset})"
            faults += [f"{where}: {fault}" for fault in _faults(record, info, seen)]
            if record.object_id not in excluded:
                kept += 1
                seen.add(record.object_id)
    except PipelineError as error:
        # What follows a damaged record cannot be found: the file ends here.
        faults.append(str(error))
        return count, size
    if (count, kept) != (file.records, file.examples):
        faults.append(
            f"{file.uri}: {count} records, {kept} of them examples; "
            f"dataset.json says {file.records} and {file.examples}"
        )
    return count, size


def _faults(record: dataset.Example, info: dataset.DatasetInfo, seen: set[str]) -> list[str]:
    faults = []
    try:
        records.verify(record)
    except records.RecordError as error:
        faults.append(str(error))
    if not 0 <= record.label_index < len(info.labels) or info.labels[record.label_index] != record.label:
        faults.append(f"label {record.label_index} is not {record.label!r} in labels")
    if record.object_id in seen:
        faults.append(f"object {record.object_id} occurs twice")
    return faults
