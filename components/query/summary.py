"""What was selected, what was not and why, and how near each class's split is to its shares: what the step prints."""

from collections.abc import Mapping
from dataclasses import dataclass

from components.artifacts.objects import SPLITS
from components.query.collection import Counts
from components.query.corrections import Corrected
from components.query.labels import ClassCount
from components.query.splits import Reassignment
from components.shared.display import no_placeholder

MOST_CLASSES = 50


@dataclass(frozen=True)
class Selection:
    """What was selected.

    Attributes:
        shards: Names of the shards that have objects, such as `00000-of-00004`.
        classes: Every class found, largest first; `left_out` says why one was not kept.
        per_split: (class, split) -> images.
        counts: Objects on the way to a class.
        without_picture: Objects that have a class and no image.
        capped: Images beyond `max_images_per_class`.
        reassignments: Groups that are in another split than their hash says.
        not_asked: Objects that have a class and that the source was not asked about: the class is full, or too small.
        failed: Object id -> why the source gave no answer about it.
        asked: Split -> the share of each class that was asked for.
        notes: What was done otherwise than one may expect, a sentence each.
        corrected: What became of label_corrections.
    """

    label: str
    group: str
    shards: tuple[str, ...]
    classes: tuple[ClassCount, ...]
    per_split: dict[tuple[str, str], int]
    counts: Counts
    without_picture: int
    capped: int
    reassignments: tuple[Reassignment, ...]
    not_asked: int
    failed: Mapping[str, str]
    asked: Mapping[str, float]
    notes: tuple[str, ...]
    corrected: Corrected = Corrected()

    @property
    def labels(self) -> list[str]:
        """Names of the kept classes, in the order of their indexes."""
        return sorted(item.name for item in self.classes if not item.left_out)

    def pictures(self, split: str) -> int:
        """Images in one split."""
        return sum(number for (_, each), number in self.per_split.items() if each == split)

    def deviation(self, label: str, split: str) -> float:
        """By how many percentage points of the class `label` the share of `split` is above what was asked."""
        total = sum(self.per_split.get((label, each), 0) for each in SPLITS)
        return 100 * (self.per_split.get((label, split), 0) / total - self.asked[split])

    def metadata(self) -> dict[str, object]:
        """What the artifact `objects` carries: counts and labels."""
        return {
            "label": no_placeholder(self.label),
            "classes": len(self.labels),
            "pictures": sum(self.per_split.values()),
            **{split: self.pictures(split) for split in SPLITS},
            "objects_in_source": self.counts.source,
            "shards": len(self.shards),
            "without_value": self.counts.no_label,
            "unmapped": self.counts.unmapped,
            "without_picture": self.without_picture,
            "not_answered": len(self.failed),
        }

    def first_line(self) -> str:
        """How many images, classes, shards and objects."""
        splits = ", ".join(f"{self.pictures(split):,} {split}" for split in SPLITS)
        return (
            f"{sum(self.per_split.values()):,} pictures in {len(self.labels)} classes of {self.label} "
            f"({splits}), {len(self.shards)} shards, from {self.counts.source:,} objects"
        )

    def __str__(self) -> str:
        """Lines: the counts, what was left out, notes, and a line per class (the largest MOST_CLASSES)."""
        lines = [self.first_line()]
        losses = [f"{number:,} {reason}" for number, reason in _losses(self) if number]
        if losses:
            lines.append(f"left out: {'; '.join(losses)}")
        lines += [f"note: {note}" for note in self.notes]
        kept = [item.name for item in self.classes if not item.left_out]
        lines += [_class_line(self, name) for name in kept[:MOST_CLASSES]]
        if len(kept) > MOST_CLASSES:
            lines.append(f"  ... and {len(kept) - MOST_CLASSES} smaller classes; the profile has them all")
        return "\n".join(lines)


def _losses(selection: Selection) -> list[tuple[int, str]]:
    counts, label = selection.counts, selection.label
    in_small = sum(item.pictures for item in selection.classes if item.left_out)
    return [
        (counts.source - counts.matching - counts.closed, "objects do not match where"),
        (counts.closed, "objects have no open image (rights=any takes them)"),
        (counts.no_id, "objects have no id"),
        (counts.no_label, f"objects have no value in {label}"),
        (counts.unmapped, "objects have a value that label_map does not name"),
        (counts.repeated, "rows repeat an object"),
        (counts.ambiguous, "objects have two classes"),
        (selection.without_picture, "objects have no picture"),
        (selection.not_asked, "objects were not asked about (class full or too small, or not in the public domain)"),
        (len(selection.failed), "objects got no answer"),
        (in_small, "pictures are in classes left out"),
        (selection.capped, "pictures are beyond max_images_per_class"),
    ]


def _class_line(selection: Selection, label: str) -> str:
    total = sum(selection.per_split.get((label, split), 0) for split in SPLITS)
    shares = ", ".join(
        f"{split} {100 * selection.per_split.get((label, split), 0) / total:.1f}% "
        f"({selection.deviation(label, split):+.1f})"
        for split in SPLITS
    )
    return f"  {label}: {total:,} pictures; {shares}"
