"""Which of several equal images stays."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from components.assemble.groups import Pairs, components

DUPLICATE = "duplicate"
NEAR_DUPLICATE = "near_duplicate"
CONFLICT = "conflict"
# The first stays: an image in training and in test would be learnt by heart, so the training copy goes.
_PRECEDENCE = {"test": 0, "validation": 1, "train": 2}


@dataclass(frozen=True)
class Resolution:
    """For each row why it is excluded (empty: it is not), the row because of which (-1: none), and whether an equal
    image has another label."""

    reasons: list[str]
    of: list[int]
    conflict: list[bool]


def resolve(index: pa.Table, pairs: Pairs, conflicts: str) -> Resolution:
    """Decides for each group of equal images which one stays.

    Images with different labels are a conflict: all of them go; with conflicts=keep they are duplicates like any,
    and still marked.
    """
    labels, splits = index["label"].to_pylist(), index["split"].to_pylist()
    ids, digests = index["object_id"].to_pylist(), index["encoded_sha256"].to_pylist()
    reasons, of, conflict = [""] * len(index), [-1] * len(index), [False] * len(index)
    for group in _groups(pairs, len(index)):
        winner, *others = sorted(group, key=lambda row: (_PRECEDENCE[splits[row]], ids[row]))
        differ = len({labels[row] for row in group}) > 1
        if differ:
            for row in group:
                conflict[row] = True
        if differ and conflicts != "keep":
            for row in group:
                reasons[row] = CONFLICT
                of[row] = next(other for other in (winner, *others) if labels[other] != labels[row])
            continue
        for row in others:
            reasons[row], of[row] = DUPLICATE if digests[row] == digests[winner] else NEAR_DUPLICATE, winner
    return Resolution(reasons, of, conflict)


def _groups(pairs: Pairs, n: int) -> list[list[int]]:
    roots = components(pairs, n)
    groups = defaultdict(list)
    for row in np.unique(np.concatenate([pairs.first, pairs.second])).tolist():
        groups[int(roots[row])].append(row)
    return list(groups.values())
