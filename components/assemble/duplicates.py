"""Pictures that occur more than once: the same bytes, or the same picture re-encoded, resized, mirrored or cropped.

Candidates are pairs whose perceptual hashes differ in few bits; a pair counts only if the thumbnails agree as well.
"""

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Iterator

import numpy as np

from components.shared import hashing

# Shares cut off each side of one picture before it is compared with the whole other: light crops are found by this.
TRIMS = (0.0, 0.025, 0.05)
# Hashes are cut into 9 blocks and joined on every choice of 3: any pair that differs in at most 6 bits has 3 equal
# blocks (pigeonhole), so it meets in one of the 84 joins; pairs with 7 or 8 meet in 97 % and 88 % of cases. Source:
# Manku et al. 2007, "Detecting near-duplicates for web crawling".
_BLOCKS = 9
_JOINED = 3
# Pairs compared at a time: bounds memory.
_CHUNK = 1 << 21


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows, first < second, unique and sorted: indices [n], bits in which the hashes differ [n]."""

    first: np.ndarray
    second: np.ndarray
    distance: np.ndarray

    def __len__(self) -> int:
        return len(self.first)


def find_pairs(thumbnails: np.ndarray, digests: list[str], distance: int) -> Pairs:
    """Pairs of pictures that are the same.

    Args:
        thumbnails: uint8 [n, 384], of `components.shared.hashing`.
        digests: sha256 of the stored pictures [n]: equal ones are pairs at distance 0, whatever else.
        distance: Bits in which perceptual hashes may differ; -1 compares the digests only.
    """
    _, representatives, inverse = np.unique(digests, return_index=True, return_inverse=True)
    exact = np.flatnonzero(representatives[inverse] != np.arange(len(digests)))
    first, second, bits = [representatives[inverse[exact]]], [exact], [np.zeros(len(exact), np.int64)]
    if distance >= 0:
        near = _near_pairs(thumbnails[representatives], distance)
        first.append(representatives[near.first])
        second.append(representatives[near.second])
        bits.append(near.distance)
    first, second, bits = np.concatenate(first), np.concatenate(second), np.concatenate(bits)
    first, second = np.minimum(first, second), np.maximum(first, second)
    order = np.lexsort((second, first))
    return Pairs(first[order], second[order], bits[order])


def components(pairs: Pairs, n: int) -> np.ndarray:
    """For each of `n` rows the smallest row that it is connected with by `pairs`: int64 [n]."""
    roots = np.arange(n)
    while True:
        low = np.minimum(roots[pairs.first], roots[pairs.second])
        merged = roots.copy()
        np.minimum.at(merged, pairs.first, low)
        np.minimum.at(merged, pairs.second, low)
        merged = merged[merged]
        if np.array_equal(merged, roots):
            return roots
        roots = merged


def _near_pairs(thumbnails: np.ndarray, distance: int) -> Pairs:
    lumas = hashing.lumas(thumbnails)
    trimmed = [hashing.perceptual_hashes(lumas, trim) for trim in TRIMS]
    return close_pairs(trimmed[0], trimmed + [hashing.mirrored(hashes) for hashes in trimmed], distance)


def close_pairs(hashes: np.ndarray, variants: list[np.ndarray], distance: int, threads: int = 2) -> Pairs:
    """Pairs (i, j) where hashes[i] and one of variants[...][j] differ in at most `distance` bits.

    Args:
        hashes: uint64 [n].
        variants: What to compare them with, such as the hashes themselves and those of mirrored pictures; each [n].
        distance: 0 to 64; complete up to 6, see `_BLOCKS`.
    """
    entries = np.concatenate(variants)
    choices = list(itertools.combinations(_blocks(), _JOINED))
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda blocks: _join(hashes, entries, blocks, distance), choices))
    packed = np.unique(np.concatenate(found)) if found else np.zeros(0, np.uint64)
    # The lowest byte is the distance: the first of equal pairs is the nearest.
    _, nearest = np.unique(packed >> np.uint64(8), return_index=True)
    packed = packed[nearest]
    pair = packed >> np.uint64(8)
    n = np.uint64(max(len(hashes), 1))
    return Pairs((pair // n).astype(np.int64), (pair % n).astype(np.int64), (packed & np.uint64(255)).astype(np.int64))


def _blocks() -> list[tuple[int, int]]:
    """(shift, width) of the blocks of a 64-bit hash."""
    edges = [round(64 * i / _BLOCKS) for i in range(_BLOCKS + 1)]
    return [(low, high - low) for low, high in itertools.pairwise(edges)]


def _join(hashes: np.ndarray, entries: np.ndarray, blocks: tuple[tuple[int, int], ...], distance: int) -> np.ndarray:
    """Pairs that agree in `blocks`, packed as (first * n + second) << 8 | distance."""
    n = len(hashes)
    left, left_rows = _sorted_by_key(hashes, blocks)
    right, right_rows = _sorted_by_key(entries, blocks)
    bits = sum(width for _, width in blocks)
    ends = np.cumsum(np.bincount(right, minlength=1 << bits))
    stop = ends[left]
    start = np.where(left > 0, ends[left - 1], 0)
    found = []
    for i, k in _expand(start, stop):
        rows, others = left_rows[i], right_rows[k]
        bits_apart = np.bitwise_count(hashes[rows] ^ entries[others])
        others = others % n
        good = (bits_apart <= distance) & (rows != others)
        low, high = np.minimum(rows, others)[good], np.maximum(rows, others)[good]
        found.append((low * n + high).astype(np.uint64) << np.uint64(8) | bits_apart[good].astype(np.uint64))
    return np.unique(np.concatenate(found)) if found else np.zeros(0, np.uint64)


def _sorted_by_key(hashes: np.ndarray, blocks: tuple[tuple[int, int], ...]) -> tuple[np.ndarray, np.ndarray]:
    """(keys, rows) sorted by key; key and row are packed into one number because plain sort is much faster."""
    key = np.zeros(len(hashes), np.uint64)
    for shift, width in blocks:
        key = key << np.uint64(width) | hashes >> np.uint64(shift) & np.uint64((1 << width) - 1)
    packed = np.sort(key << np.uint64(32) | np.arange(len(hashes), dtype=np.uint64))
    return (packed >> np.uint64(32)).astype(np.int64), (packed & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _expand(start: np.ndarray, stop: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(i, k) for all k in start[i]:stop[i] and all i, in chunks."""
    counts = stop - start
    totals = np.concatenate([[0], np.cumsum(counts)])
    for begin in range(0, int(totals[-1]), _CHUNK):
        flat = np.arange(begin, min(begin + _CHUNK, int(totals[-1])))
        i = np.searchsorted(totals, flat, side="right") - 1
        yield i, start[i] + flat - totals[i]

