"""Whether two images are the same, however re-encoded, resized, mirrored or lightly cropped.

Two different landscapes with the same sky have close perceptual hashes. What they do not share is detail: both images
are reduced to it (the local mean removed, the local contrast evened out), one is shifted and stretched until it fits
the other best, and the correlation of the two decides.
"""

import functools
import math

import numpy as np
import simplejpeg
from PIL import Image

SIDE = 64
# On Louvre paintings 99 % of copies correlate at 0.84 and more; different paintings at 0.75 and less, and two studies
# that their painter repeated in another light at 0.82.
SAME = 0.83
# Beyond doubt: no need to align further.
_SURELY_SAME = 0.9
# Below this another view of the pair will not help.
_DOUBTFUL = 0.6
# Contrast below this (in grey levels) is noise of the JPEG, not detail.
_NOISE = 8.0
_WINDOW = 9
# Cuts at a side, as shares of the image: those tried first on all sides; the steps of the search, each with the
# correlation below which no copy was ever seen at that stage; its limit.
_FIRST_TRIMS = (0.0, -0.05, -0.025, 0.025, 0.05)
_STEPS = ((0.025, 0.3), (0.0125, 0.5), (0.006, 0.65))
_LIMIT = 0.08
# Pairs begun at a time: 160 KB each.
_CHUNK = 128


def detail(jpeg: bytes) -> np.ndarray:
    """The detail of an image, squashed to float32 [64, 64]."""
    grey = Image.fromarray(simplejpeg.decode_jpeg(jpeg, colorspace="GRAY")[:, :, 0])
    pixels = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    mean = _local_mean(pixels)
    contrast = np.sqrt(np.maximum(_local_mean(pixels**2) - mean**2, 0))
    return (pixels - mean) / (contrast + _NOISE)


def agreements(details: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Correlation (-1 to 1) of pairs of `details` (float32 [n, 64, 64]) in the best alignment, mirrored or not.

    Args:
        first, second: Indices into `details`; [pairs]. The order within a pair does not matter.
    """
    best = np.zeros(len(first))
    views = _views(details)
    for start in range(0, len(first), _CHUNK):
        part = slice(start, start + _CHUNK)
        starts = _starts(views, first[part], second[part])
        for k, (one, other) in enumerate(zip(first[part], second[part])):
            best[start + k] = _agreement(details[one], details[other], starts[k])
    return best


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """`agreements` of two details [64, 64]."""
    return float(agreements(np.stack([one, other]), np.array([0]), np.array([1]))[0])


def _views(details: np.ndarray) -> np.ndarray:
    """Each detail with all sides cut by each of _FIRST_TRIMS, and the whole mirrored: unit vectors [n, 6, 4096]."""
    cut = [_stretch(trim, trim) @ details @ _stretch(trim, trim).T if trim else details for trim in _FIRST_TRIMS]
    views = np.stack([*cut, details[:, :, ::-1]], axis=1).reshape(len(details), len(cut) + 1, SIDE * SIDE)
    views -= views.mean(axis=2, keepdims=True)
    return views / (np.linalg.norm(views, axis=2, keepdims=True) + 1e-6)


def _starts(views: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Correlations [pairs, 4, trims]: second cut, second cut and mirrored, first cut, first cut and mirrored."""
    found = []
    for whole, cut in ((first, second), (second, first)):
        plain_and_mirrored = views[whole][:, [0, -1]]
        found.append(plain_and_mirrored @ views[cut][:, :-1].transpose(0, 2, 1))
    return np.concatenate(found, axis=1)


def _agreement(one: np.ndarray, other: np.ndarray, starts: np.ndarray) -> float:
    views = [(whole, view) for whole, cut in ((one, other), (other, one)) for view in (cut, cut[:, ::-1])]
    trims = starts.argmax(axis=1)
    best = -1.0
    # The most promising view first: mostly it settles the matter.
    for k in np.argsort(-starts.max(axis=1), kind="stable")[:2]:
        left, right = views[k]
        best = max(best, _aligned(left, right, float(starts[k, trims[k]]), _FIRST_TRIMS[trims[k]]))
        if not _DOUBTFUL <= best <= _SURELY_SAME:
            break
    return best


def _aligned(one: np.ndarray, other: np.ndarray, best: float, trim: float) -> float:
    """Coordinate descent over what is cut off the four sides of `other`; negative: what `one` lacks."""
    one = one - one.mean()
    one /= np.sqrt(np.vdot(one, one)) + 1e-6
    cuts = [trim] * 4
    for step, floor in _STEPS:
        if not floor <= best <= _SURELY_SAME:
            break
        best = _descend(one, other, best, cuts, step)
    return best


def _descend(one: np.ndarray, other: np.ndarray, best: float, cuts: list[float], step: float) -> float:
    """Improves `cuts` (left, right, top, bottom) in place; returns the correlation. `one` is a unit vector."""
    left, right = slice(0, 2), slice(2, 4)
    improved = True
    while improved:
        improved = False
        for side in range(4):
            # Columns are stretched apart from rows: of the two products only one is new.
            done = _stretch(*cuts[right]) @ other if side < 2 else other @ _stretch(*cuts[left]).T
            for change in (-step, step):
                tried = cuts.copy()
                tried[side] = round(tried[side] + change, 4)
                if abs(tried[side]) > _LIMIT:
                    continue
                view = done @ _stretch(*tried[left]).T if side < 2 else _stretch(*tried[right]) @ done
                value = _correlation(one, view)
                if value > best + 1e-3:
                    best, improved, cuts[side] = value, True, tried[side]
    return best


@functools.cache
def _stretch(low: float, high: float) -> np.ndarray:
    """Linear interpolation [64, 64] of 64 samples from the part between the shares `low` and 1 - `high`."""
    positions = ((low + (np.arange(SIDE) + 0.5) / SIDE * (1 - low - high)) * SIDE - 0.5).clip(0, SIDE - 1)
    return np.maximum(0, 1 - np.abs(positions[:, None] - np.arange(SIDE))).astype(np.float32)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Of a unit vector without mean, and any other; both [64, 64]."""
    total = float(other.sum())
    spread = max(float(np.vdot(other, other)) - total * total / other.size, 0.0)
    return float(np.vdot(one, other)) / (math.sqrt(spread) + 1e-6)


def _local_mean(pixels: np.ndarray) -> np.ndarray:
    """Mean over 9 x 9 pixels, by sums of sums."""
    padded = np.pad(pixels.astype(np.float64), _WINDOW // 2, mode="edge")
    sums = np.pad(padded, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    n = _WINDOW
    return ((sums[n:, n:] - sums[:-n, n:] - sums[n:, :-n] + sums[:-n, :-n]) / n**2).astype(np.float32)
