"""Rules that a data set must meet before a model is trained on it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from components.artifacts import dataset
from components.artifacts.image_shard import OK
from components.assemble.duplicates import Found
from components.assemble.settings import Settings
from components.shared import hashing
from components.shared.stability import population_stability_index

OUTCOMES = ("ok", "warn", "fail")
# So many names are listed in a reason; the report has all.
_NAMED = 5


@dataclass(frozen=True)
class Subject:
    """What is checked: objects selected, the index with `kept` and `reason`, the counts of each split and class, the
    short side of the images, and what the search for duplicates found."""

    objects: pa.Table
    examples: pa.Table
    labels: Sequence[str]
    per_class: Mapping[str, Sequence[int]]
    stored_size: int
    duplicates: Found


@dataclass(frozen=True)
class Finding:
    """A rule that is not met: how bad it is (warn or fail), and what is wrong and what to do about it."""

    outcome: str
    reason: str


@dataclass(frozen=True)
class Check:
    """The findings of all rules, worst first."""

    findings: tuple[Finding, ...]

    @property
    def outcome(self) -> str:
        """ok, warn or fail: that of the worst finding."""
        return max((finding.outcome for finding in self.findings), key=OUTCOMES.index, default="ok")

    def count(self, outcome: str) -> int:
        """How many findings are that bad."""
        return sum(finding.outcome == outcome for finding in self.findings)

    @property
    def reasons(self) -> list[str]:
        """What is wrong, worst first."""
        return [finding.reason for finding in self.findings]


def check(subject: Subject, settings: Settings) -> Check:
    """Applies all rules.

    Raises:
        PipelineError: `previous_dataset` or the file of `expected_classes` cannot be read.
    """
    findings = [finding for rule in _RULES for finding in rule(subject, settings)]
    return Check(tuple(sorted(findings, key=lambda finding: -OUTCOMES.index(finding.outcome))))


def _lost_objects(subject: Subject, settings: Settings) -> Iterator[Finding]:
    selected, indexed = (set(table["object_id"].to_pylist()) for table in (subject.objects, subject.examples))
    if lost := selected - indexed:
        yield Finding(
            "fail", f"{len(lost)} of {len(selected)} objects came in no shard, such as {min(lost)}: run it again"
        )
    if strange := indexed - selected:
        yield Finding(
            "fail", f"{len(strange)} objects were never selected, such as {min(strange)}: shards of another run"
        )


def _failed_pictures(subject: Subject, settings: Settings) -> Iterator[Finding]:
    statuses = subject.examples["status"].to_pylist()
    failed = [status for status in statuses if status != OK]
    share = len(failed) / max(len(statuses), 1)
    if share > settings.max_failed_fraction:
        commonest = ", ".join(f"{status} ({count})" for status, count in Counter(sorted(failed)).most_common(3))
        yield Finding(
            "fail",
            f"{share:.1%} of the pictures failed, mostly {commonest}; max_failed_fraction allows "
            f"{settings.max_failed_fraction:.1%}",
        )


def _blank_pictures(subject: Subject, settings: Settings) -> Iterator[Finding]:
    """White, black or transparent: a placeholder of the museum, or what a damaged file left."""
    columns = (subject.examples[name].to_pylist() for name in ("object_id", "status", "message"))
    blank = [
        f"{object_id} ({message.rpartition(' ')[2]})"
        for object_id, status, message in zip(*columns) if status == OK and (message or "").startswith(hashing.BLANK)
    ]  # fmt: skip
    if blank:
        pictures = "picture shows" if len(blank) == 1 else "pictures show"
        yield Finding("warn", f"{len(blank)} {pictures} nothing, every pixel has the same colour: {_listed(blank)}")


def _conflicts(subject: Subject, settings: Settings) -> Iterator[Finding]:
    columns = (subject.examples[name].to_pylist() for name in ("object_id", "label", "conflict"))
    names = [f"{object_id} ({label})" for object_id, label, conflict in zip(*columns) if conflict]
    if names and settings.conflicts == "fail":
        yield Finding(
            "fail",
            f"{len(names)} equal pictures have different labels: {_listed(names)}; correct the labels, or set "
            "conflicts to exclude or keep",
        )


def _emptied_splits(subject: Subject, settings: Settings) -> Iterator[Finding]:
    """A split that was never asked for (validation_fraction or test_fraction 0) has no objects and is none."""
    selected = Counter(subject.objects["split"].to_pylist())
    for split, counts in subject.per_class.items():
        if selected[split] and not any(counts):
            yield Finding(
                "fail",
                f"no {split} example is left of {selected[split]:,} objects: their pictures failed or are copies of "
                "others; see the data report, and give the split more objects",
            )


def _unfinished_search(subject: Subject, settings: Settings) -> Iterator[Finding]:
    found = subject.duplicates
    if found.left or not found.complete:
        number = f"{'' if found.complete else 'more than '}{found.left:,}"
        yield Finding(
            "warn",
            f"{number} pairs that look alike were left unconfirmed, those within one split first: copies may remain; "
            "a smaller duplicate_distance leaves fewer",
        )


def _small_classes(subject: Subject, settings: Settings) -> Iterator[Finding]:
    for split, least, outcome in (
        ("train", settings.min_examples_per_class, "fail"),
        ("validation", settings.min_eval_examples_per_class, "warn"),
        ("test", settings.min_eval_examples_per_class, "warn"),
    ):
        counts = subject.per_class[split]
        # A split that is empty as a whole was not asked for, or is a finding of its own.
        small = [(count, label) for count, label in zip(counts, subject.labels) if count < least]
        if small and (any(counts) or split == "train"):
            listed = _listed([f"{label} ({count})" for count, label in sorted(small)])
            classes = "class has" if len(small) == 1 else "classes have"
            yield Finding(outcome, f"{len(small)} {classes} fewer than {least} {split} examples: {listed}")


def _imbalance(subject: Subject, settings: Settings) -> Iterator[Finding]:
    counts = [count for count in subject.per_class["train"] if count]
    if counts and max(counts) > settings.max_imbalance * min(counts):
        ratio = max(counts) / min(counts)
        yield Finding(
            "warn",
            f"the largest class has {ratio:.0f} times the training examples of the smallest (max_imbalance="
            f"{settings.max_imbalance:g}): set balance=weights, or max_images_per_class",
        )


def _enlarged_pictures(subject: Subject, settings: Settings) -> Iterator[Finding]:
    columns = (subject.examples[name].to_pylist() for name in ("original_width", "original_height", "kept"))
    sides = [min(width, height) for width, height, kept in zip(*columns) if kept and width and height]
    share = sum(side < subject.stored_size for side in sides) / max(len(sides), 1)
    if share > settings.max_enlarged_fraction:
        yield Finding(
            "warn",
            f"{share:.0%} of the pictures are smaller than {subject.stored_size} px and were enlarged: set a smaller "
            f"image_size, or find larger pictures",
        )


def _unexpected_classes(subject: Subject, settings: Settings) -> Iterator[Finding]:
    if not settings.expected_classes:
        return
    expected = dataset.expected_classes(settings.expected_classes)
    if strange := sorted(set(subject.labels) - expected):
        yield Finding("fail", f"unexpected classes: {_listed(strange)}; add them to expected_classes or to label_map")
    if absent := sorted(expected - set(subject.labels)):
        yield Finding("warn", f"expected classes are absent: {_listed(absent)}")


def _drift(subject: Subject, settings: Settings) -> Iterator[Finding]:
    if not settings.previous_dataset:
        return
    before = dataset.load(settings.previous_dataset)
    then = _totals(before.labels, [split.per_class for split in before.splits.values()])
    now = _totals(subject.labels, list(subject.per_class.values()))
    classes = sorted(then | now)
    index = population_stability_index([then.get(name, 0) for name in classes], [now.get(name, 0) for name in classes])
    if index > settings.max_drift:
        yield Finding("warn", f"the class shares drifted from the previous data set: PSI {index:.2f} (max_drift="
                              f"{settings.max_drift:g})")  # fmt: skip
    if appeared := sorted(set(now) - set(then)):
        yield Finding("warn", f"classes that the previous data set lacks: {_listed(appeared)}")
    if vanished := sorted(set(then) - set(now)):
        yield Finding("warn", f"classes of the previous data set are gone: {_listed(vanished)}")


def _totals(labels: Sequence[str], per_class: Sequence[Sequence[int]]) -> dict[str, int]:
    return {label: sum(counts) for label, counts in zip(labels, zip(*per_class))}


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


_RULES = (
    _lost_objects,
    _failed_pictures,
    _blank_pictures,
    _conflicts,
    _emptied_splits,
    _small_classes,
    _unexpected_classes,
    _imbalance,
    _enlarged_pictures,
    _drift,
    _unfinished_search,
)
