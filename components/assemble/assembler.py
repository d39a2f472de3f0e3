"""All indexes to one data set: dataset.json, the merged index, the report."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.artifacts import dataset, index, objects, records
from components.artifacts.image_shard import OK
from components.assemble import duplicates, validation
from components.assemble.data_report import Findings, write_report
from components.assemble.mislabels import find_suspects
from components.assemble.resolution import Resolution, resolve
from components.assemble.settings import Settings
from components.shared.display import no_placeholder
from components.shared.errors import PipelineError

_SEEN_BY_TRAINING = ("object_id", "split", "label_index", "encoded_sha256")


@dataclass(frozen=True)
class AssembleSummary:
    """The data set's snapshot hash, its counts, and the outcome of the check."""

    snapshot: str
    objects: int
    examples: dict[str, int]
    duplicates: int
    conflicts: int
    check: validation.Check
    record_files: tuple[str, ...]

    def metrics(self) -> dict[str, float]:
        """Metrics of the step, as KFP shows them."""
        counts = {f"examples_{split}": number for split, number in self.examples.items()}
        rules = {f"rules_{outcome}": self.check.count(outcome) for outcome in ("warn", "fail")}
        return {"objects": self.objects, **counts, "duplicates": self.duplicates, "conflicts": self.conflicts, **rules}

    def metadata(self) -> dict[str, object]:
        """What the artifact `dataset` carries: the outcome of the check is seen where the data set is."""
        reasons = no_placeholder("; ".join(self.check.reasons))
        return {"snapshot": self.snapshot, "check": self.check.outcome, "reasons": reasons}

    def __str__(self) -> str:
        counts = ", ".join(f"{number} {split}" for split, number in self.examples.items())
        reasons = "".join(f"\n- {finding.outcome}: {finding.reason}" for finding in self.check.findings)
        return (
            f"{sum(self.examples.values())} examples of {self.objects} objects ({counts}); "
            f"{self.duplicates} duplicates, "
            f"{self.conflicts} in conflicts; check: {self.check.outcome}; snapshot {self.snapshot[:12]}{reasons}"
        )


def assemble_dataset(
    index_paths: list[str],
    objects_path: str,
    labels_path: str,
    dataset_path: str,
    report_path: str,
    settings: Settings,
) -> AssembleSummary:
    """Merges the indexes, drops duplicates and conflicts, checks the rules; writes data set and report.

    A rule that fails does not stop this step, because KFP keeps nothing of a step that fails and the report is wanted
    then most: the outcome is written into dataset.json, and the train step begins by asking for it.

    Raises:
        PipelineError: the indexes do not fit together, or a setting is wrong.
    """
    labels = objects.read_labels(labels_path)
    selected = pq.read_table(objects_path, columns=["object_id", "split"])
    merged = index.read(index_paths)
    found, resolution = _deduplicate(merged, settings)
    examples = _with_outcome(merged, resolution)
    selection = objects.selection(pq.read_schema(objects_path).metadata)
    parameters = {**selection["parameters"], **index.parameters(index_paths[0]), **asdict(settings)}
    content = _content(examples, labels, resolution) | {"parameters": parameters, "selection": selection["funnel"]}
    per_class = {name: split["per_class"] for name, split in content["splits"].items()}
    subject = validation.Subject(selected, examples, labels, per_class, content["stored_size"], found)
    check = validation.check(subject, settings)
    content["check"] = {"outcome": check.outcome, "reasons": check.reasons}
    dataset.write(dataset_path, content, examples)
    kept = np.flatnonzero(examples["kept"].to_numpy(zero_copy_only=False))
    suspects = find_suspects(examples, kept, len(labels))
    write_report(report_path, content, examples, Findings(check, suspects, resolution.of))
    return AssembleSummary(
        snapshot=content["snapshot"],
        objects=len(selected),
        examples={name: split["examples"] for name, split in content["splits"].items()},
        duplicates=int(sum(reason in ("duplicate", "near_duplicate") for reason in resolution.reasons)),
        conflicts=sum(resolution.conflict),
        check=check,
        record_files=tuple(file["uri"] for split in content["splits"].values() for file in split["files"]),
    )


def _deduplicate(merged: pa.Table, settings: Settings) -> tuple[duplicates.Found, Resolution]:
    """Which rows of `merged` go; rows without an image take no part."""
    rows = np.flatnonzero(pc.equal(merged["status"], OK).to_numpy(zero_copy_only=False))
    pictures = merged.select(duplicates.COLUMNS).take(pa.array(rows))
    found = duplicates.find_pairs(pictures, settings.duplicate_distance)
    return found, resolve(merged, found.pairs.of(rows), settings.conflicts)


def _content(examples: pa.Table, labels: list[str], resolution: Resolution) -> dict[str, Any]:
    """What dataset.json says of the examples."""
    kept = examples.filter(examples["kept"])
    return {
        "format": dataset.FORMAT,
        "snapshot": dataset.snapshot(labels, zip(*(kept[name].to_pylist() for name in _SEEN_BY_TRAINING))),
        "labels": labels,
        "stored_size": _stored_size(kept),
        "splits": {split: _split(examples, split, len(labels)) for split in objects.SPLITS},
        "excluded": _excluded(examples, resolution),
    }


def _stored_size(kept: pa.Table) -> int:
    sizes = Counter(map(min, zip(kept["width"].to_pylist(), kept["height"].to_pylist())))
    if len(sizes) > 1:
        listed = ", ".join(f"{count} of {size} px" for size, count in sizes.most_common())
        raise PipelineError(f"the pictures have different sizes ({listed}): do not mix runs of different image_size")
    return next(iter(sizes), 0)


def _split(examples: pa.Table, split: str, classes: int) -> dict[str, Any]:
    stored = examples.filter(pc.and_(pc.equal(examples["split"], split), pc.equal(examples["status"], OK)))
    kept = stored.filter(stored["kept"])
    in_file = Counter(stored["record_uri"].to_pylist())
    kept_in_file = Counter(kept["record_uri"].to_pylist())
    size: Counter[str] = Counter()
    for uri, length in zip(stored["record_uri"].to_pylist(), stored["length"].to_pylist()):
        size[uri] += records.HEADER_BYTES + length + records.FOOTER_BYTES
    files = [
        {"uri": uri, "examples": kept_in_file[uri], "records": in_file[uri], "bytes": size[uri]}
        for uri in sorted(in_file)
    ]
    per_class = np.bincount(kept["label_index"].to_numpy(), minlength=classes).tolist()
    return {"examples": len(kept), "per_class": per_class, "files": files}


def _excluded(index: pa.Table, resolution: Resolution) -> list[dict[str, Any]]:
    names = ("object_id", "split", "record_uri", "position")
    columns = {name: index[name].to_pylist() for name in names}
    return [
        {
            "object_id": columns["object_id"][row],
            "split": columns["split"][row],
            "reason": reason,
            "of": columns["object_id"][resolution.of[row]],
            "uri": columns["record_uri"][row],
            "position": columns["position"][row],
        }
        for row, reason in enumerate(resolution.reasons)
        if reason
    ]


def _with_outcome(index: pa.Table, resolution: Resolution) -> pa.Table:
    """`index` with `kept`, `reason` (empty, the status of a failed image, or why the image was excluded) and
    `conflict`."""
    statuses = index["status"].to_pylist()
    reasons = [reason or ("" if status == OK else status) for reason, status in zip(resolution.reasons, statuses)]
    table = index.append_column("kept", pa.array([not reason for reason in reasons]))
    table = table.append_column("reason", pa.array(reasons))
    return table.append_column("conflict", pa.array(resolution.conflict))
