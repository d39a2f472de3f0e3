"""What the step prints: what was selected, what was not and why, and how near each class's split is to its shares."""

from typing import TYPE_CHECKING

from components.query.splits import SIDES

if TYPE_CHECKING:
    from components.query.selection import Selection

MOST_CLASSES = 50


def summarize(selection: "Selection") -> str:
    """Lines: the counts, what was left out, notes, and a line a class (the largest MOST_CLASSES)."""
    sides = ", ".join(f"{selection.pictures(side):,} {side}" for side in SIDES)
    lines = [
        f"{sum(selection.sides.values()):,} pictures in {len(selection.labels)} classes of {selection.label} "
        f"({sides}), {len(selection.shards)} shards, from {selection.counts.source:,} objects"
    ]
    losses = [f"{number:,} {reason}" for number, reason in _losses(selection) if number]
    if losses:
        lines.append(f"left out: {'; '.join(losses)}")
    lines += [f"note: {note}" for note in selection.notes]
    kept = [item.name for item in selection.classes if not item.left_out]
    lines += [_class_line(selection, name) for name in kept[:MOST_CLASSES]]
    if len(kept) > MOST_CLASSES:
        lines.append(f"  ... and {len(kept) - MOST_CLASSES} smaller classes; the profile has them all")
    return "\n".join(lines)


def deviation(selection: "Selection", label: str, side: str) -> float:
    """By how many percentage points of the class `label` the share of `side` is above what was asked."""
    total = sum(selection.sides.get((label, each), 0) for each in SIDES)
    return 100 * (selection.sides.get((label, side), 0) / total - selection.asked[side])


def _losses(selection: "Selection") -> list[tuple[int, str]]:
    counts, label = selection.counts, selection.label
    in_small = sum(item.pictures for item in selection.classes if item.left_out)
    return [
        (counts.source - counts.matching, "objects do not match where"),
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


def _class_line(selection: "Selection", label: str) -> str:
    total = sum(selection.sides.get((label, side), 0) for side in SIDES)
    shares = ", ".join(
        f"{side} {100 * selection.sides.get((label, side), 0) / total:.1f}% ({deviation(selection, label, side):+.1f})"
        for side in SIDES
    )
    return f"  {label}: {total:,} pictures; {shares}"
