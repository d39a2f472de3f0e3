"""Pictures that occur more than once: the same bytes, or the same picture re-encoded, resized, mirrored or cropped.

Candidates are pairs whose perceptual hashes differ in few bits; a pair counts only if the thumbnails agree as well.
"""

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Iterator

import numpy as np
import pyarrow as pa

from components.assemble import confirmation
from components.assemble.stored import read_pictures
from components.shared import hashing
from components.shared.progress import Progress

# What is cut off one picture before its hash is compared with that of the whole other: light crops are found by this,
# even ones first, then those of mostly one side.
EVEN_CUTS: tuple[hashing.Cuts, ...] = tuple((cut, cut, cut, cut) for cut in (0.0, 0.025, 0.05))
UNEVEN_CUTS: tuple[hashing.Cuts, ...] = (
    (0.05, 0.0, 0.025, 0.025),
    (0.0, 0.05, 0.025, 0.025),
    (0.025, 0.025, 0.05, 0.0),
    (0.025, 0.025, 0.0, 0.05),
)
# Correlation of thumbnails below which a pair is not worth reading the pictures; copies have 0.66 and more.
_THUMBNAILS_ALIKE = 0.6
# Above so many hashes the search is complete for this distance only: 84 joins in place of 165.
_MANY = 200_000
_COMPLETE_DISTANCE_OF_MANY = 6
# Bits of a key: a table of 2^22 buckets is counted in each join.
_LONGEST_KEY = 22
# Work done at a time; bounds memory.
_CHUNK = 1 << 21
_CHUNK_OF_THUMBNAILS = 1 << 16
_CHUNK_OF_PICTURES = 512


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows, first < second, unique and sorted: indices [n], bits in which the hashes differ [n]."""

    first: np.ndarray
    second: np.ndarray
    distance: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    def where(self, chosen: np.ndarray) -> "Pairs":
        """Those for which `chosen` (bool [n]) is true."""
        return Pairs(self.first[chosen], self.second[chosen], self.distance[chosen])


def find_pairs(examples: pa.Table, distance: int) -> Pairs:
    """Pairs of rows of `examples` (the index, successful rows only) that show the same picture.

    Equal files are pairs at distance 0, whatever else. Of others, `distance` is the number of bits in which perceptual
    hashes may differ to be looked at closely; -1 compares the files only.
    """
    digests = examples["encoded_sha256"].to_numpy(zero_copy_only=False)
    _, representatives, inverse = np.unique(digests, return_index=True, return_inverse=True)
    copies = np.flatnonzero(representatives[inverse] != np.arange(len(digests)))
    exact = Pairs(representatives[inverse[copies]], copies, np.zeros(len(copies), np.int64))
    if distance < 0:
        return exact
    near = _near_pairs(examples.take(representatives), distance)
    return _merged(exact, Pairs(representatives[near.first], representatives[near.second], near.distance))


def _merged(*parts: Pairs) -> Pairs:
    one, other, bits = (np.concatenate([getattr(part, name) for part in parts]) for name in Pairs.__annotations__)
    first, second = np.minimum(one, other), np.maximum(one, other)
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


def _near_pairs(examples: pa.Table, distance: int) -> Pairs:
    """Pairs by hash, then by thumbnail, then by the pictures themselves: each step sees what the one before left."""
    lumas = hashing.lumas(examples["thumbnail"].to_pylist())
    candidates = candidate_pairs(lumas, distance)
    candidates = candidates.where(_thumbnail_correlation(lumas, candidates) >= _THUMBNAILS_ALIKE)
    return candidates.where(_confirmed(examples, candidates))


def candidate_pairs(lumas: np.ndarray, distance: int) -> Pairs:
    """Pairs of lumas [n, 16, 16] whose hashes are close, mirrored or not; of many, only the even cuts are tried."""
    cuts = EVEN_CUTS if len(lumas) > _MANY else EVEN_CUTS + UNEVEN_CUTS
    hashes = [hashing.perceptual_hashes(lumas, cut) for cut in cuts]
    return close_pairs(hashes[0], hashes + [hashing.mirrored(cut) for cut in hashes], distance)


def _thumbnail_correlation(lumas: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Correlation of the thumbnails of each pair, the best over trims and mirroring: float32 [pairs]."""
    best = np.full(len(pairs), -1, np.float32)
    for start in range(0, len(pairs), _CHUNK_OF_THUMBNAILS):
        part = slice(start, start + _CHUNK_OF_THUMBNAILS)
        one, other = lumas[pairs.first[part]], lumas[pairs.second[part]]
        for cuts in EVEN_CUTS + UNEVEN_CUTS:
            for whole, cut in ((one, other), (other, one)):
                cut = hashing.cut(cut, cuts)
                for view in (cut, cut[:, :, ::-1]):
                    best[part] = np.maximum(best[part], _correlations(whole, view))
    return best


def _correlations(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    one, other = (x.reshape(len(x), -1).astype(np.float32) for x in (one, other))
    one, other = one - one.mean(axis=1, keepdims=True), other - other.mean(axis=1, keepdims=True)
    norms = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    return (one * other).sum(axis=1) / (norms + 1e-6)


def _confirmed(examples: pa.Table, pairs: Pairs) -> np.ndarray:
    """Whether the pictures of each pair are the same: bool [pairs]. Pairs are read by batches: memory stays flat."""
    confirmed = np.zeros(len(pairs), bool)
    progress = Progress(len(pairs), "pairs")
    for start in range(0, len(pairs), _CHUNK_OF_PICTURES):
        part = slice(start, start + _CHUNK_OF_PICTURES)
        rows, places = np.unique(np.concatenate([pairs.first[part], pairs.second[part]]), return_inverse=True)
        details = [confirmation.detail(picture) for picture in read_pictures(examples, rows)]
        for k, (one, other) in enumerate(zip(*np.split(places, 2))):
            confirmed[start + k] = confirmation.agreement(details[one], details[other]) >= confirmation.SAME
            progress.update()
    return confirmed


def close_pairs(hashes: np.ndarray, variants: list[np.ndarray], distance: int, threads: int = 2) -> Pairs:
    """Pairs (i, j) where hashes[i] and one of variants[...][j] differ in at most `distance` bits.

    Args:
        hashes: uint64 [n].
        variants: What to compare them with, such as the hashes themselves and those of mirrored pictures; each [n].
        distance: 0 to 64.

    The hashes are cut into blocks and joined on every choice of some of these: with `distance` more blocks than are
    joined on, each pair has that many blocks untouched (pigeonhole), so it is met. Of more than 200,000 hashes pairs up
    to distance 6 are met for sure, 97 % of those with 7 and 88 % of those with 8. Source: Manku et al. 2007, "Detecting
    near-duplicates for web crawling".
    """
    entries = np.concatenate(variants)
    choices = _choices(len(hashes), distance)
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda blocks: _join(hashes, entries, blocks, distance), choices))
    packed = np.unique(np.concatenate(found)) if found else np.zeros(0, np.uint64)
    # The lowest byte is the distance: the first of equal pairs is the nearest.
    _, nearest = np.unique(packed >> np.uint64(8), return_index=True)
    packed = packed[nearest]
    pair = packed >> np.uint64(8)
    n = np.uint64(max(len(hashes), 1))
    return Pairs((pair // n).astype(np.int64), (pair % n).astype(np.int64), (packed & np.uint64(255)).astype(np.int64))


def _choices(n: int, distance: int) -> list[tuple[tuple[int, int], ...]]:
    """The sets of blocks, as (shift, width), to join on. Longer keys for more hashes, else the buckets are too full."""
    joined = 2 if n <= _MANY // 10 else 3
    spare = min(distance, _COMPLETE_DISTANCE_OF_MANY) if n > _MANY else distance
    count = max(joined + spare, 64 * joined // _LONGEST_KEY + 1)
    edges = [round(64 * i / count) for i in range(count + 1)]
    blocks = [(low, high - low) for low, high in itertools.pairwise(edges)]
    return list(itertools.combinations(blocks, joined))


def _join(hashes: np.ndarray, entries: np.ndarray, blocks: tuple[tuple[int, int], ...], distance: int) -> np.ndarray:
    """Pairs that agree in `blocks`, packed as (first * n + second) << 8 | distance."""
    n = len(hashes)
    left, left_rows = _sorted_by_key(hashes, blocks)
    right, right_rows = _sorted_by_key(entries, blocks)
    start, stop = _ranges(left, right, 1 << sum(width for _, width in blocks))
    found = []
    for i, k in _expand(start, stop):
        rows, others = left_rows[i], right_rows[k]
        bits_apart = np.bitwise_count(hashes[rows] ^ entries[others])
        others = others % n
        good = (bits_apart <= distance) & (rows != others)
        low, high = np.minimum(rows, others)[good], np.maximum(rows, others)[good]
        found.append((low * n + high).astype(np.uint64) << np.uint64(8) | bits_apart[good].astype(np.uint64))
    return np.unique(np.concatenate(found)) if found else np.zeros(0, np.uint64)


def _ranges(left: np.ndarray, right: np.ndarray, keys: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of the sorted `left` where equal values start and stop in the sorted `right`."""
    if len(right) < keys:
        return np.searchsorted(right, left, side="left"), np.searchsorted(right, left, side="right")
    # Counting all keys is faster than searching for many.
    ends = np.concatenate([[0], np.cumsum(np.bincount(right, minlength=keys))])
    return ends[left], ends[left + 1]


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
