"""Rules that a data set must meet before a model is trained on it."""

import math
from dataclasses import dataclass
from typing import Any, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

OUTCOMES = ("ok", "warn", "fail")


@dataclass(frozen=True)
class Finding:
    """A rule that is not met: how bad it is (warn or fail), what is wrong and what to do."""

    outcome: str
    reason: str


@dataclass(frozen=True)
class Check:
    """The outcome of all rules: ok, warn or fail, and the findings, worst first."""

    findings: tuple[Finding, ...] = ()

    @property
    def outcome(self) -> str:
        return max((finding.outcome for finding in self.findings), key=OUTCOMES.index, default="ok")

    @property
    def reasons(self) -> list[str]:
        ordered = sorted(self.findings, key=lambda finding: -OUTCOMES.index(finding.outcome))
        return [finding.reason for finding in ordered]


def population_stability_index(expected: Sequence[float], actual: Sequence[float]) -> float:
    """How far the class shares `actual` moved from `expected`: below 0.1 little, above 0.25 a lot.

    Counts or shares, one for each class, in the same order. A class that is absent on one side counts as half an
    example. Source: Siddiqi 2006, "Credit Risk Scorecards".
    """
    total_expected, total_actual = sum(expected), sum(actual)
    if not total_expected or not total_actual:
        return 0.0
    index = 0.0
    for before, after in zip(expected, actual):
        if before == after == 0:
            continue
        p, q = max(before, 0.5) / total_expected, max(after, 0.5) / total_actual
        index += (q - p) * math.log(q / p)
    return index


def check(content: dict[str, Any], index: pa.Table, objects: pa.Table, settings: Any) -> Check:
    """All rules; `settings` are those of the assembler."""
    rules = (_lost_objects, _failed_pictures, _small_classes, _imbalance, _drift)
    findings = [finding for rule in rules for finding in rule(content, index, objects, settings)]
    return Check(tuple(findings))


def _lost_objects(content, index, objects, settings) -> Iterator[Finding]:
    lost = set(objects["object_id"].to_pylist()) - set(index["object_id"].to_pylist())
    if lost:
        yield Finding("fail", f"{len(lost)} of {len(objects)} objects are in no index, such as {min(lost)}")


def _failed_pictures(content, index, objects, settings) -> Iterator[Finding]:
    failed = pc.sum(pc.not_equal(index["status"], "ok")).as_py() or 0
    share = failed / max(len(index), 1)
    if share > settings.max_failed_fraction:
        yield Finding("fail", f"{share:.1%} of the pictures failed (max_failed_fraction={settings.max_failed_fraction})")


def _small_classes(content, index, objects, settings) -> Iterator[Finding]:
    counts = content["splits"]["train"]["per_class"]
    small = [(count, label) for label, count in zip(content["labels"], counts) if count < settings.min_examples_per_class]
    if small:
        listed = ", ".join(f"{label} ({count})" for count, label in sorted(small)[:5])
        yield Finding("fail", f"{len(small)} classes have fewer than {settings.min_examples_per_class} training examples: {listed}")


def _imbalance(content, index, objects, settings) -> Iterator[Finding]:
    counts = content["splits"]["train"]["per_class"]
    if min(counts, default=0) and max(counts) / min(counts) > settings.max_imbalance:
        ratio = max(counts) / min(counts)
        yield Finding("warn", f"the largest class has {ratio:.0f} times the examples of the smallest")


def _drift(content, index, objects, settings) -> Iterator[Finding]:
    return iter(())
