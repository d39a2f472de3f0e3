"""Images that occur more than once: the same bytes, or the same image re-encoded, resized, mirrored or cropped.

Candidates are pairs whose perceptual hashes differ in few bits. Of these thumbnails are compared, and of what is left
the images themselves: each step sees what the one before left. What is already known to be equal by way of others is
not compared again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.assemble.groups import Groups, Pairs, appended, merged
from components.assemble.looking import Looker
from components.assemble.search import MANY, close_pairs, crowd_links
from components.shared import hashing
from components.shared.progress import Progress

# What is cut off one image before its hash is compared with that of the whole other: light crops are found by this,
# even ones first, then those of mostly one side.
EVEN_CUTS: tuple[hashing.Cuts, ...] = tuple((cut, cut, cut, cut) for cut in (0.0, 0.025, 0.05))
UNEVEN_CUTS: tuple[hashing.Cuts, ...] = (
    (0.05, 0.0, 0.025, 0.025),
    (0.0, 0.05, 0.025, 0.025),
    (0.025, 0.025, 0.05, 0.0),
    (0.025, 0.025, 0.0, 0.05),
)
# Correlation of thumbnails below which a pair is not worth reading the images; copies have 0.66 and more.
_THUMBNAILS_ALIKE = 0.6
# Grey levels between the darkest and the brightest part of a thumbnail.
_LEAST_CONTRAST = 4
# Of a group of equal images so many are compared with all others; more would find nothing new.
_CROWD = 32
# Bits in which the hashes of a crowd's copies differ; more would link what only looks alike.
_CROWD_DISTANCE = 4
# Pairs whose images are looked at, at most: about a quarter of an hour on two cores. In pairs and not in seconds, so
# that the same collection gives the same data set on any machine.
MOST_LOOKED_AT = 1_000_000
# Pairs looked at before what they tell is used, and pairs from which they are chosen.
_WAVE = 4096
_SCANNED = 1 << 16
# What is asked of the index.
COLUMNS = ["object_id", "split", "encoded_sha256", "thumbnail", "record_uri", "offset", "length"]
# Hashes and thumbnails at a time; bounds memory.
_CHUNK_OF_HASHES = 1 << 16
_CHUNK_OF_THUMBNAILS = 1 << 13


@dataclass(frozen=True)
class Found:
    """Pairs that show the same image, and how many more might: alike by hash and thumbnail, not looked at. `complete`
    is false where hashes were so alike that not even all such pairs were counted."""

    pairs: Pairs
    left: int = 0
    complete: bool = True


def find_pairs(examples: pa.Table, distance: int) -> Found:
    """Pairs of rows of `examples` (the index, successful rows only) that connect the rows of each image.

    Equal files are pairs at distance 0, whatever else. Of others, `distance` is the number of bits in which perceptual
    hashes may differ to be looked at closely; -1 compares the files only. Pairs in different splits are looked at
    first: these are the ones that would make an evaluation too good.
    """
    digests = examples["encoded_sha256"].to_numpy(zero_copy_only=False)
    _, representatives, inverse = np.unique(digests, return_index=True, return_inverse=True)
    copies = np.flatnonzero(representatives[inverse] != np.arange(len(digests)))
    exact = Pairs(representatives[inverse[copies]], copies, np.zeros(len(copies), np.int64))
    if distance < 0:
        return Found(exact)
    distinct = np.sort(representatives)
    # Of blank images neither hash nor correlation says anything.
    lumas = hashing.lumas(thumbnails(examples))[distinct]
    textured = np.ptp(lumas, axis=(1, 2)) >= _LEAST_CONTRAST
    lumas, distinct = lumas[textured], distinct[textured]
    near = _Search(examples.take(pa.array(distinct)), lumas, distance).run()
    return Found(merged(exact, near.pairs.of(distinct)), near.left, near.complete)


def thumbnails(examples: pa.Table) -> np.ndarray:
    """The column `thumbnail` as uint8 [n, 384], without a Python object for each."""
    size = hashing.THUMBNAIL_BYTES
    parts = [np.zeros((0, size), np.uint8)]
    for chunk in examples["thumbnail"].cast(pa.binary(size)).chunks:
        data = np.frombuffer(chunk.buffers()[1], np.uint8, len(chunk) * size, chunk.offset * size)
        parts.append(data.reshape(-1, size))
    return np.concatenate(parts)


class _Search:
    """The near pairs of images that are all different files."""

    def __init__(self, examples: pa.Table, lumas: np.ndarray, distance: int) -> None:
        self.examples, self.lumas, self.distance = examples, lumas, distance
        self.splits = pc.index_in(examples["split"], pc.unique(examples["split"])).to_numpy()
        self.groups = Groups(len(examples))
        self.found: list[Pairs] = [Pairs(*(np.zeros(0, np.int64),) * 3)]
        self.looked_at = self.left = 0

    def run(self) -> Found:
        with Looker(self.examples) as looker:
            links = crowd_links(_hashes(self.lumas, hashing.WHOLE), min(self.distance, _CROWD_DISTANCE), _CROWD)
            self._look(looker, links)
            rows = self._without_crowds()
            candidates, complete = candidate_pairs(self.lumas[rows], self.distance)
            self._look(looker, candidates.of(rows))
        return Found(merged(*self.found), self.left, complete)

    def _without_crowds(self) -> np.ndarray:
        """All rows but those that would be more than _CROWD of one group."""
        order = np.argsort(self.groups.roots, kind="stable")
        roots = self.groups.roots[order]
        rank = np.arange(len(roots)) - np.searchsorted(roots, roots)
        return np.sort(order[rank < _CROWD])

    def _look(self, looker: Looker, pairs: Pairs) -> None:
        """Looks at `pairs`, wave after wave: what is equal connects groups, within which nothing more is looked at."""
        pairs = pairs.where(thumbnail_correlation(self.lumas, pairs) >= _THUMBNAILS_ALIKE)
        same_split = self.splits[pairs.first] == self.splits[pairs.second]
        pairs = pairs.where(np.lexsort((pairs.distance, same_split)))
        progress = Progress(len(pairs), "pairs")
        waiting, rest = pairs.where(slice(0)), pairs
        while len(waiting) or len(rest):
            size = max(_SCANNED - len(waiting), _WAVE)
            waiting, rest = appended(waiting, rest.where(slice(size))), rest.where(slice(size, None))
            waiting = waiting.where(self.groups.apart(waiting))
            if self.looked_at >= MOST_LOOKED_AT:
                self.left += len(waiting) + int(self.groups.apart(rest).sum())
                return
            chosen = self.groups.forest(waiting, min(_WAVE, MOST_LOOKED_AT - self.looked_at))
            self._confirm(looker, waiting.where(chosen))
            waiting = waiting.where(np.delete(np.arange(len(waiting)), chosen))
            progress.update(progress.total - progress.done - len(waiting) - len(rest))

    def _confirm(self, looker: Looker, pairs: Pairs) -> None:
        equal = pairs.where(looker.equal(pairs.first, pairs.second))
        self.looked_at += len(pairs)
        self.groups.join(equal)
        self.found.append(equal)


def candidate_pairs(lumas: np.ndarray, distance: int) -> tuple[Pairs, bool]:
    """Pairs of lumas [n, 16, 16] whose hashes are close, mirrored or not, and whether these are all; of many images
    only the even cuts are tried."""
    cuts = EVEN_CUTS if len(lumas) > MANY else EVEN_CUTS + UNEVEN_CUTS
    hashes = [_hashes(lumas, cut) for cut in cuts]
    return close_pairs(hashes[0], hashes + [hashing.mirrored(cut) for cut in hashes], distance)


def _hashes(lumas: np.ndarray, cuts: hashing.Cuts) -> np.ndarray:
    """Perceptual hashes, some thousands at a time: their spectra are floats."""
    starts = range(0, len(lumas), _CHUNK_OF_HASHES)
    parts = [hashing.perceptual_hashes(lumas[start : start + _CHUNK_OF_HASHES], cuts) for start in starts]
    return np.concatenate([np.zeros(0, np.uint64), *parts])


def thumbnail_correlation(lumas: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Correlation of the thumbnails of each pair, the best over cuts and mirroring until it is high enough: [pairs]."""
    best = np.full(len(pairs), -1, np.float32)
    for cuts in EVEN_CUTS + UNEVEN_CUTS:
        open_ = np.flatnonzero(best < _THUMBNAILS_ALIKE)
        for start in range(0, len(open_), _CHUNK_OF_THUMBNAILS):
            part = open_[start : start + _CHUNK_OF_THUMBNAILS]
            best[part] = np.maximum(best[part], _best(lumas[pairs.first[part]], lumas[pairs.second[part]], cuts))
    return best


def _best(one: np.ndarray, other: np.ndarray, cuts: hashing.Cuts) -> np.ndarray:
    views: Sequence[tuple[np.ndarray, np.ndarray]] = ((one, hashing.cut(other, cuts)), (other, hashing.cut(one, cuts)))
    return np.max([_correlations(whole, view) for whole, cut in views for view in (cut, cut[:, :, ::-1])], axis=0)


def _correlations(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    one, other = (x.reshape(len(x), -1).astype(np.float32) for x in (one, other))
    one, other = one - one.mean(axis=1, keepdims=True), other - other.mean(axis=1, keepdims=True)
    norms = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    return (one * other).sum(axis=1) / (norms + 1e-6)
