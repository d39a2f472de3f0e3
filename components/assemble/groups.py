"""Pairs of rows, and the groups that they connect."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows, first < second: indices [n], bits in which the hashes differ [n]."""

    first: np.ndarray
    second: np.ndarray
    distance: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    def where(self, chosen: np.ndarray | slice) -> "Pairs":
        """Those that `chosen` (bool [n], indices, or a slice) picks."""
        return Pairs(self.first[chosen], self.second[chosen], self.distance[chosen])

    def of(self, rows: np.ndarray) -> "Pairs":
        """The same pairs, if these count within the ascending `rows` of a larger table."""
        return Pairs(rows[self.first], rows[self.second], self.distance)


def appended(*parts: Pairs) -> Pairs:
    """All pairs of `parts`, in order."""
    return Pairs(*(np.concatenate([getattr(part, name) for part in parts]) for name in Pairs.__annotations__))


def merged(*parts: Pairs) -> Pairs:
    """All pairs of `parts`, sorted."""
    pairs = appended(*parts)
    first, second = np.minimum(pairs.first, pairs.second), np.maximum(pairs.first, pairs.second)
    order = np.lexsort((second, first))
    return Pairs(first[order], second[order], pairs.distance[order])


def components(pairs: Pairs, n: int) -> np.ndarray:
    """For each of `n` rows the smallest row that it is connected with by `pairs`: int64 [n]."""
    return _connected(np.arange(n), pairs.first, pairs.second)


class Groups:
    """Rows that are known to be connected; at first each is alone."""

    def __init__(self, n: int) -> None:
        self.roots = np.arange(n)

    def join(self, pairs: Pairs) -> None:
        """Connects the rows of each pair, and so their groups."""
        labels = _connected(np.arange(len(self.roots)), self.roots[pairs.first], self.roots[pairs.second])
        self.roots = labels[self.roots]

    def apart(self, pairs: Pairs) -> np.ndarray:
        """Whether the rows of each pair are in two groups: bool [pairs]."""
        return self.roots[pairs.first] != self.roots[pairs.second]

    def forest(self, pairs: Pairs, most: int) -> np.ndarray:
        """Indices of at most `most` pairs that connect as many groups as possible, without a circle: if these are
        confirmed, the pairs between them need no look."""
        above: dict[int, int] = {}

        def root(row: int) -> int:
            while (higher := above.get(row, row)) != row:
                above[row] = row = above.get(higher, higher)
            return row

        chosen = []
        ends = zip(self.roots[pairs.first].tolist(), self.roots[pairs.second].tolist())
        for k, (one, other) in enumerate(ends):
            one, other = root(one), root(other)
            if one != other:
                above[other] = one
                chosen.append(k)
                if len(chosen) == most:
                    break
        return np.array(chosen, np.int64)


def _connected(roots: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    while True:
        low = np.minimum(roots[first], roots[second])
        found = roots.copy()
        np.minimum.at(found, first, low)
        np.minimum.at(found, second, low)
        found = found[found]
        if np.array_equal(found, roots):
            return roots
        roots = found
