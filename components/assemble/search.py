"""Close hashes among very many, without comparing all with all.

The hashes are cut into blocks and joined on every choice of some of these: with `distance` more blocks than are joined
on, each pair has that many blocks untouched (pigeonhole), so it is met. Of more than 200,000 hashes pairs up to
distance 6 are met for sure, 97 % of those with 7 and 88 % of those with 8. Source: Manku et al. 2007, "Detecting
near-duplicates for web crawling".
"""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from components.assemble.groups import Pairs

# Above so many hashes the search is complete for this distance only: 84 joins in place of 165.
MANY = 200_000
_COMPLETE_DISTANCE_OF_MANY = 6
# Bits of a key: a table of 2^22 buckets is counted in each join.
_LONGEST_KEY = 22
# Comparisons done at a time; bounds memory.
_CHUNK = 1 << 20
# Pairs kept at most, some 32 bytes each. Thousands of alike hashes have millions of pairs.
MOST_PAIRS = 10_000_000
# Hashes that are compared with one hash at most, in one join.
_MOST_OF_ONE = 4096
_THREADS = 2

Blocks = tuple[tuple[int, int], ...]


def close_pairs(hashes: np.ndarray, variants: list[np.ndarray], distance: int) -> tuple[Pairs, bool]:
    """Pairs (i, j) where hashes[i] and one of variants[...][j] differ in at most `distance` bits, each once, sorted.

    Args:
        hashes: uint64 [n].
        variants: What to compare them with, such as the hashes themselves and those of mirrored images; each [n].
        distance: 0 to 64.

    Returns:
        The pairs, and whether these are all: no more than MOST_PAIRS are kept, and where very many hashes are alike
        each is compared with some thousands of them.
    """
    entries = np.concatenate(variants)
    kept, complete = [np.zeros(0, np.uint64)], True
    with ThreadPoolExecutor(_THREADS) as pool:
        # Some joins at a time and not all at once: what they find is merged, as often as it has doubled, and bounded.
        for choices in _batches(_choices(len(hashes), distance), _THREADS):
            for found, whole in pool.map(lambda blocks: _join(hashes, entries, blocks, distance), choices):
                kept, complete = [*kept, found], complete and whole
            if sum(map(len, kept)) > max(2 * len(kept[0]), _CHUNK):
                kept = [_nearest(np.concatenate(kept))]
            if len(kept[0]) > MOST_PAIRS:
                complete = False
                break
    packed = _nearest(np.concatenate(kept))
    if len(packed) > MOST_PAIRS:
        packed = packed[np.argsort(packed & np.uint64(255), kind="stable")[:MOST_PAIRS]]
        complete = False
    packed.sort()
    return _unpacked(packed, len(hashes)), complete


def crowd_links(hashes: np.ndarray, distance: int, size: int) -> Pairs:
    """For hashes that meet more than `size` others in a join: their pairs with the first of these.

    Of many alike ones the pairs would be too many; connected by these links, most of them need not be compared.
    """
    found = [np.zeros(0, np.uint64)]
    for blocks in _choices(len(hashes), distance):
        keys, ordered = _sorted_by_key(hashes, blocks)
        starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]]) if len(keys) else np.zeros(0, np.int64)
        counts = np.diff(np.r_[starts, len(keys)])
        first = ordered[np.repeat(starts, counts)]
        crowded = np.repeat(counts > size, counts)
        first, others = first[crowded], ordered[crowded]
        bits_apart = np.bitwise_count(hashes[first] ^ hashes[others])
        near = bits_apart <= distance
        found.append(_packed(first[near], others[near], bits_apart[near], len(hashes)))
    return _unpacked(_nearest(np.concatenate(found)), len(hashes))


def _unpacked(packed: np.ndarray, hashes: int) -> Pairs:
    pair, n = packed >> np.uint64(8), np.uint64(max(hashes, 1))
    bits = (packed & np.uint64(255)).astype(np.int64)
    return Pairs((pair // n).astype(np.int64), (pair % n).astype(np.int64), bits)


def _batches(items: list[Blocks], size: int) -> Iterator[list[Blocks]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _choices(n: int, distance: int) -> list[Blocks]:
    """The sets of blocks, as (shift, width), to join on. Longer keys for more hashes, else the buckets are too full."""
    joined = 2 if n <= MANY // 10 else 3
    spare = min(distance, _COMPLETE_DISTANCE_OF_MANY) if n > MANY else distance
    count = max(joined + spare, 64 * joined // _LONGEST_KEY + 1)
    edges = [round(64 * i / count) for i in range(count + 1)]
    blocks = [(low, high - low) for low, high in itertools.pairwise(edges)]
    return list(itertools.combinations(blocks, joined))


def _join(hashes: np.ndarray, entries: np.ndarray, blocks: Blocks, distance: int) -> tuple[np.ndarray, bool]:
    """Pairs that agree in `blocks`, packed and sorted, and whether these are all."""
    left, left_rows = _sorted_by_key(hashes, blocks)
    right, right_rows = _sorted_by_key(entries, blocks)
    start, stop = _ranges(left, right, 1 << sum(width for _, width in blocks))
    capped = np.minimum(stop, start + _MOST_OF_ONE)
    whole = bool((capped == stop).all())
    left_hashes, right_hashes = hashes[left_rows], entries[right_rows]
    found, pending, total = np.zeros(0, np.uint64), [], 0
    for i, k in _expand(start, capped):
        bits_apart = np.bitwise_count(left_hashes[i] ^ right_hashes[k])
        near = np.flatnonzero(bits_apart <= distance)
        pending.append(_packed(left_rows[i[near]], right_rows[k[near]] % len(hashes), bits_apart[near], len(hashes)))
        total += len(pending[-1])
        if total > _CHUNK:
            found, pending, total = _nearest(np.concatenate([found, *pending])), [], 0
            if len(found) > MOST_PAIRS:
                return found[:MOST_PAIRS], False
    return _nearest(np.concatenate([found, *pending])), whole


def _packed(rows: np.ndarray, others: np.ndarray, bits_apart: np.ndarray, n: int) -> np.ndarray:
    """Pairs of different rows as (first * n + second) << 8 | distance."""
    low, high = np.minimum(rows, others), np.maximum(rows, others)
    packed = (low * n + high).astype(np.uint64) << np.uint64(8) | bits_apart.astype(np.uint64)
    return packed[low != high]


def _nearest(packed: np.ndarray) -> np.ndarray:
    """Each pair once, with its smallest distance: the lowest byte; sorted."""
    packed = np.unique(packed)
    pair = packed >> np.uint64(8)
    return packed[np.r_[True, pair[1:] != pair[:-1]]] if len(packed) else packed


def _ranges(left: np.ndarray, right: np.ndarray, keys: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of the sorted `left` where equal values start and stop in the sorted `right`."""
    if len(right) < keys:
        return np.searchsorted(right, left, side="left"), np.searchsorted(right, left, side="right")
    # Counting all keys is faster than searching for many.
    ends = np.concatenate([[0], np.cumsum(np.bincount(right, minlength=keys))])
    return ends[left], ends[left + 1]


def _sorted_by_key(hashes: np.ndarray, blocks: Blocks) -> tuple[np.ndarray, np.ndarray]:
    """(keys, rows) sorted by key; key and row are packed into one number because plain sort is much faster."""
    key = np.zeros(len(hashes), np.uint64)
    for shift, width in blocks:
        key = key << np.uint64(width) | hashes >> np.uint64(shift) & np.uint64((1 << width) - 1)
    packed = np.sort(key << np.uint64(32) | np.arange(len(hashes), dtype=np.uint64))
    return (packed >> np.uint64(32)).astype(np.int64), (packed & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _expand(start: np.ndarray, stop: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(i, k) for all k in start[i]:stop[i] and all i, in chunks of whole i."""
    counts = stop - start
    totals = np.concatenate([[0], np.cumsum(counts)])
    low = 0
    while low < len(counts):
        high = max(int(np.searchsorted(totals, totals[low] + _CHUNK, side="right")) - 1, low + 1)
        i = np.repeat(np.arange(low, high), counts[low:high])
        k = np.arange(len(i)) + np.repeat(start[low:high] - (totals[low:high] - totals[low]), counts[low:high])
        yield i, k
        low = high
