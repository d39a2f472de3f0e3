"""When a classifier says "I do not know": `uncertainty.npz` beside it, which train measures on the validation split.

Two questions are answered apart. Which labels cannot be excluded: split conformal prediction, whose set of labels holds
the truth with the probability (`coverage`) that is asked for. Is the image like those that were learned from: the
distance of its features from theirs.

    scores     [n] float32, ascending: 1 - probability of the true label, of every validation image
    mean       [width] float32, axes [width, k] float32, variances [k] float32: the principal axes of the training
               images' features, of unit length
    rest       float32: the mean variance along all other axes
    distances  [m] float32, ascending: of the validation images

Sources: Sadinle, Lei and Wasserman, Least ambiguous set-valued classifiers with bounded error levels
(arXiv:1609.00451); Lee et al., A simple unified framework for detecting out-of-distribution samples (arXiv:1807.03888).
"""

import math
import os
from dataclasses import dataclass, fields

import numpy as np

from components.shared.parameters import between

FILE_NAME = "uncertainty.npz"
REASON = "uncertain"
COVERAGE = 0.9
# Share of images like those that were learned from which are taken for unlike them.
REFUSED = 0.03
AXES = 64
MOST = 5_000  # images of a split: more of them change neither axes nor distances
_LEAST = 1e-12


@dataclass(frozen=True)
class Decision:
    """An answer that may be none.

    Attributes:
        label: the one label that cannot be excluded; None where there are several or none, or the image is unlike.
        labels: all that cannot be excluded, the likeliest first; empty where none is likely enough.
        unlike: whether the image is unlike those that the model learned from.
    """

    label: str | None
    labels: tuple[str, ...]
    unlike: bool

    @property
    def reason(self) -> str | None:
        """REASON where there is no label."""
        return REASON if self.label is None else None

    @property
    def why(self) -> str:
        """Why there is no label, in words; empty where there is one."""
        if self.label is not None:
            return ""
        if self.unlike:
            return "unlike all that the model learned from"
        return f"cannot be told apart: {', '.join(self.labels)}" if self.labels else "no label is likely enough"

    def fields(self) -> dict[str, object]:
        """As an API answers it."""
        return {"label": self.label, "reason": self.reason, "label_set": list(self.labels), "unlike": self.unlike}


@dataclass(frozen=True)
class Uncertainty:
    """What the file holds; see this module's docstring."""

    scores: np.ndarray
    mean: np.ndarray
    axes: np.ndarray
    variances: np.ndarray
    rest: np.ndarray
    distances: np.ndarray

    def sets(self, probabilities: np.ndarray, coverage: float = COVERAGE) -> np.ndarray:
        """[n, classes] bool: the labels that cannot be excluded, of `probabilities` [n, classes].

        All with 1 - probability up to the quantile of the validation images' scores: of all sets with this coverage
        the smallest on average. A set may be empty: where the model is right more often than `coverage` asks for, its
        least sure answers are given up. Raises ParameterError: `coverage` is not between 0 and 1.
        """
        return 1 - np.asarray(probabilities, np.float32) <= self.threshold(coverage)

    def threshold(self, coverage: float) -> float:
        """The score up to which a label is in the set; infinite where there are too few images for such a coverage."""
        check_coverage(coverage)
        return _quantile(self.scores, coverage)

    def distance(self, features: np.ndarray) -> np.ndarray:
        """[n]: squared Mahalanobis distance of `features` [n, width] from the training images."""
        offset = unit(features) - self.mean
        along = offset @ self.axes
        beside = np.maximum((offset**2).sum(axis=1) - (along**2).sum(axis=1), 0)
        return (along**2 / self.variances).sum(axis=1) + beside / self.rest

    def unlike(self, features: np.ndarray) -> np.ndarray:
        """[n] bool: whether images with `features` [n, width] are farther than all but REFUSED of the validation's."""
        return self.distance(features) > _quantile(self.distances, 1 - REFUSED)

    def decide(
        self, labels: list[str], probabilities: np.ndarray, features: np.ndarray, coverage: float = COVERAGE
    ) -> list[Decision]:
        """Of n images, by their `probabilities` [n, classes] in the order of `labels` and `features` [n, width]."""
        found, sets = [], self.sets(probabilities, coverage)
        for row, inside, unlike in zip(probabilities, sets, self.unlike(features), strict=True):
            kept = [labels[index] for index in np.argsort(-row, kind="stable") if inside[index]]
            found.append(Decision(kept[0] if len(kept) == 1 and not unlike else None, tuple(kept), bool(unlike)))
        return found

    def save(self, directory: str) -> None:
        """Writes the file into the local folder of a classifier."""
        np.savez(os.path.join(directory, FILE_NAME), **vars(self))


def check_coverage(coverage: float) -> None:
    """Raises ParameterError unless `coverage` is between 0 and 1, and neither."""
    between("coverage", coverage, 0.01, 0.999)


def unit(features: np.ndarray) -> np.ndarray:
    """`features` [n, width] as float32 with unit length; zeros stay zeros."""
    features = np.asarray(features, np.float32)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), _LEAST)


def fit(probabilities: np.ndarray, targets: np.ndarray, train: np.ndarray, validation: np.ndarray) -> Uncertainty:
    """Measures it.

    Args:
        probabilities: [n, classes] of the validation images, by a model that has not learned from them; `targets` [n]
            are their classes.
        train, validation: [m, width] features of both splits, of MOST images each where there are more.
    """
    scores = 1 - probabilities[np.arange(len(targets)), targets]
    rows = unit(train)
    mean = rows.mean(axis=0)
    axes, variances, total = _principal_axes(rows - mean)
    floor = max(total / rows.shape[1] * 1e-3, _LEAST)  # an axis along which nothing varies is no axis
    rest = (total - variances.sum()) / max(rows.shape[1] - len(variances), 1)
    found = Uncertainty(
        scores=np.sort(scores).astype(np.float32),
        mean=mean,
        axes=axes.astype(np.float32),
        variances=np.maximum(variances, floor).astype(np.float32),
        rest=np.asarray(max(float(rest), floor), np.float32),
        distances=np.empty(0, np.float32),
    )
    distances = np.sort(found.distance(validation)).astype(np.float32)
    return Uncertainty(**{**vars(found), "distances": distances})


def _principal_axes(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """The axes [width, k] of `rows` [n, width], which are centred, their variances [k], and the sum of all variances.

    Of the smaller of both products: 1,000 images of 2,672 numbers are solved as 1,000 numbers.
    """
    from scipy.linalg import eigh

    n, width = rows.shape
    is_wide = width > n
    product = np.asarray(rows @ rows.T if is_wide else rows.T @ rows, np.float64)
    side = len(product)
    kept = max(1, min(AXES, n - 2, width - 1))
    variances, vectors = eigh(product / n, subset_by_index=[side - kept, side - 1])
    axes = rows.T @ vectors if is_wide else vectors
    axes = axes / np.maximum(np.linalg.norm(axes, axis=0), _LEAST)
    return axes, np.maximum(variances, 0), float(np.trace(product)) / n


def load(path: str) -> Uncertainty:
    """What the local file `path` holds. Raises OSError, ValueError or KeyError: it is missing or damaged."""
    with np.load(path, allow_pickle=False) as found:
        return Uncertainty(**{field.name: found[field.name] for field in fields(Uncertainty)})


def _quantile(ascending: np.ndarray, share: float) -> float:
    """What a further value stays below with a probability of at least `share`: the finite-sample quantile."""
    place = math.ceil((len(ascending) + 1) * share - 1e-9)
    return float(ascending[place - 1]) if place <= len(ascending) else math.inf
