"""How well probabilities are calibrated: reliability diagram, expected calibration error; and undoing a temperature."""

from dataclasses import dataclass

import numpy as np

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Images sorted into BINS equal-width bins of confidence; empty bins are left out.

    Attributes:
        confidences, accuracies, counts: mean confidence, share of correct answers and images of each bin.
        ece: expected calibration error, the mean gap between the two, weighted by images.
    """

    confidences: tuple[float, ...]
    accuracies: tuple[float, ...]
    counts: tuple[int, ...]
    ece: float

    @property
    def gap(self) -> float:
        """Mean confidence minus accuracy: positive if the model is surer than it should be."""
        weights = np.array(self.counts) / sum(self.counts)
        return float(weights @ (np.array(self.confidences) - np.array(self.accuracies)))


def reliability(confidences: np.ndarray, correct: np.ndarray) -> Reliability:
    """Reliability of [n] confidences (probability of the answer) with [n] bool `correct`.

    Source: Guo et al., On Calibration of Modern Neural Networks (2017), equations 2 to 5.
    """
    bins = bin_of(confidences)
    counts = np.bincount(bins, minlength=BINS)
    filled = counts > 0
    sure = np.bincount(bins, confidences, BINS)[filled] / counts[filled]
    right = np.bincount(bins, correct, BINS)[filled] / counts[filled]
    ece = float(np.abs(sure - right) @ counts[filled] / counts.sum())
    return Reliability(tuple(sure.tolist()), tuple(right.tolist()), tuple(counts[filled].tolist()), ece)


def bin_of(confidences: np.ndarray) -> np.ndarray:
    """The bin, 0 to BINS - 1, of each of [n] confidences; the upper edge belongs to a bin."""
    return np.clip(np.ceil(np.asarray(confidences) * BINS).astype(int) - 1, 0, BINS - 1)


def without_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """The probabilities [n, classes] that the same logits give at temperature 1.

    softmax(z / T) = p means z = T log p + c, so the logits need not be kept.
    """
    logits = temperature * np.log(np.maximum(probabilities, 1e-30))
    values = np.exp(logits - logits.max(axis=1, keepdims=True))
    return values / values.sum(axis=1, keepdims=True)
