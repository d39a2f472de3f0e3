"""How far each score may be off by chance: bootstrap intervals over whole groups of images.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
"""

import numpy as np

from components.evaluate.calibration import BINS, bin_of
from components.evaluate.scores import by_picture, class_averages

RESAMPLES = 1000
# Fewer groups than this say nothing about the spread between groups; then images are resampled one by one.
MIN_GROUPS = 10

Interval = tuple[float, float]


def intervals(
    probabilities: np.ndarray, targets: np.ndarray, groups: np.ndarray | None = None, seed: int = 0
) -> dict[str, Interval]:
    """95 % intervals of every score and of the calibration error (ece), from RESAMPLES resamples.

    Whole groups ([n] strings or numbers) are drawn, since two works of one artist are not two independent trials.
    Percentile intervals; of the calibration error the basic one, since chance can only add to it: every resample is
    off by more than the whole.
    """
    predictions, confidences = probabilities.argmax(axis=1), probabilities.max(axis=1)
    correct, bins = (predictions == targets).astype(float), bin_of(confidences)
    pictures = by_picture(probabilities, targets)
    group_count, member_of = _groups(groups, len(targets))
    random = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {}
    for _ in range(RESAMPLES):
        weights = np.bincount(random.integers(0, group_count, group_count), minlength=group_count)[member_of]
        total = weights.sum()
        found = {name: float((weights * values).sum() / total) for name, values in pictures.items()}
        found |= class_averages(targets, predictions, weights, probabilities.shape[1])
        gaps = np.bincount(bins, weights * (confidences - correct), BINS)
        found["ece"] = float(np.abs(gaps).sum() / total)
        for name, value in found.items():
            drawn.setdefault(name, []).append(value)
    gaps = np.bincount(bins, confidences - correct, BINS)
    error = float(np.abs(gaps).sum() / len(targets))
    low, high = _percentiles(drawn.pop("ece"))
    basic = (max(0.0, 2 * error - high), max(0.0, 2 * error - low))
    return {name: _percentiles(values) for name, values in drawn.items()} | {"ece": basic}


def _groups(groups: np.ndarray | None, n: int) -> tuple[int, np.ndarray]:
    if groups is not None:
        names, member_of = np.unique(np.asarray(groups).astype(str), return_inverse=True)
        if len(names) >= MIN_GROUPS:
            return len(names), member_of
    return n, np.arange(n)


def _percentiles(values: list[float]) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
