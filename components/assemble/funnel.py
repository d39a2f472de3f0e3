"""Where the objects went, and how large the images are: the numbers of the data report."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from components.artifacts.image_shard import OK
from components.assemble.resolution import CONFLICT, DUPLICATE, NEAR_DUPLICATE

_COPIES = {
    DUPLICATE: "copies of the same file",
    NEAR_DUPLICATE: "copies of the same picture",
    CONFLICT: "equal pictures with different labels",
}
_SIDES = (0, 64, 128, 224, 320, 480, 640, 1024, 2048, 4096)
_SHAPES = (0, 0.5, 0.67, 0.8, 0.95, 1.05, 1.25, 1.5, 2.0)
_SHAPE_NAMES = ("< 1:2", "1:2", "2:3", "4:5", "1:1", "5:4", "3:2", "2:1 >")


Stages = list[tuple[str, int, list[tuple[str, int]]]]


def funnel(examples: pa.Table, selection: Sequence = ()) -> Stages:
    """(what is left, how many, [(why the others went, how many)]) from the collection to the examples.

    `selection` is the part of the query step, as dataset.json has it: [name, count, [[reason, count], ...]] each.
    """
    reasons = Counter(examples["reason"].to_pylist())
    failed = [
        (reason.replace("_", " "), count) for reason, count in reasons.most_common() if reason and reason not in _COPIES
    ]
    copies = [(text, reasons[reason]) for reason, text in _COPIES.items() if reasons[reason]]
    pictures = len(examples) - sum(count for _, count in failed)
    before = [(name, count, [tuple(loss) for loss in lost]) for name, count, lost in selection]
    # Where nothing was lost there is nothing to see, but for the first and the last.
    before = [stage for k, stage in enumerate(before) if stage[2] or k in (0, len(before) - 1)]
    return [
        *(before or [("objects selected", len(examples), [])]),
        ("with a good picture", pictures, failed),
        ("examples", pictures - sum(count for _, count in copies), copies),
    ]


def failures(examples: pa.Table) -> list[tuple[str, ...]]:
    """(object, title, class, why, message) of each object without an image, sorted by why."""
    names = [name for name in ("object_id", "title", "label", "status", "message") if name in examples.column_names]
    rows = zip(*(examples[name].to_pylist() for name in names))
    failed = [tuple(value or "" for value in row) for row in rows if row[names.index("status")] != OK]
    return sorted(failed, key=lambda row: (row[names.index("status")], row[0]))


def sizes(examples: pa.Table, stored_size: int) -> tuple[list[tuple[str, int, str]], list[tuple[str, int, str]]]:
    """Histograms of the originals' short sides (those below `stored_size` marked) and of their shapes."""
    columns = (examples[name].to_pylist() for name in ("original_width", "original_height", "kept"))
    known = [(width, height) for width, height, kept in zip(*columns) if kept and width and height]
    short, ratio = [min(size) for size in known], [width / height for width, height in known]
    # An edge of its own, or a bin would hold enlarged images and others.
    edges = sorted({*_SIDES, stored_size})
    sides = _counts(short, edges)
    marked = [
        (f"≥ {low}" if low else f"< {edges[1]}", count, "warn" if low < stored_size else "")
        for low, count in zip(edges, sides)
    ]
    used = np.flatnonzero(sides)
    marked = marked[used[0] : used[-1] + 1] if len(used) else []
    shapes = [(name, count, "") for name, count in zip(_SHAPE_NAMES, _counts(ratio, _SHAPES))]
    return marked, shapes


def _counts(values: Sequence[float], edges: Sequence[float]) -> list[int]:
    """How many lie in each bin; the last is open."""
    bins = np.searchsorted(edges, values, side="right") - 1
    bins = np.minimum(bins, len(edges) - 1)
    return np.bincount(bins, minlength=len(edges)).tolist()
