"""Multinomial logistic regression on frozen features: the head of a pre-trained network, and how it is chosen.

The objective is scikit-learn's: the sum of the examples' losses, plus the squared norm of the kernel over 2 C; the bias
is free. It is minimised by SciPy's L-BFGS-B to convergence, in chunks of rows, so that 200,000 examples of 2,672
numbers need 2.1 GB for the features and little beside.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from components.shared.errors import PipelineError

STRENGTHS = tuple(float(10 ** (k / 2)) for k in range(0, 8))  # C, with features whose mean squared norm is 1
FOLDS = 5
CHUNK = 16_384  # rows that are in hand at a time
_WORTH_THREADS = 20_000_000  # numbers in the rows
TOLERANCE = 1e-9  # of the gradient per example, for the head
_COMPARED = 1e-6  # and for what is only compared: no accuracy hangs on more digits


@dataclass(frozen=True)
class Head:
    """A linear classifier: logits [n, classes] = features [n, width] @ kernel [width, classes] + bias [classes]."""

    kernel: np.ndarray
    bias: np.ndarray

    def logits(self, features: np.ndarray) -> np.ndarray:
        """[n, classes] float32."""
        return (features @ self.kernel + self.bias).astype(np.float32)


@dataclass(frozen=True)
class Path:
    """Cross-validated logits for every strength, [strengths, n, classes], of the `labels` [n]."""

    logits: np.ndarray
    labels: np.ndarray
    strengths: tuple[float, ...]

    def best(self) -> int:
        """Which strength has the highest accuracy; of equals the one with the lowest loss."""
        right = (self.logits.argmax(axis=2) == self.labels).mean(axis=1)
        return int(np.lexsort((self.losses(), -right))[0])

    def losses(self) -> np.ndarray:
        """[strengths]: mean negative log-likelihood."""
        picked = np.take_along_axis(self.logits, self.labels[None, :, None], axis=2)[:, :, 0]
        return (logsumexp(self.logits, axis=2) - picked).mean(axis=1)


def check(features: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> None:
    """Raises PipelineError if no regression can be fitted: features that say nothing, or a class without examples."""
    if not np.isfinite(features).all():
        raise PipelineError("the network's features are not finite: the weights do not fit this model, or are damaged")
    if len(features) < 2 or not features.std(axis=0).any():
        raise PipelineError("the network's features are the same for every image: the weights do not fit this model")
    counts = np.bincount(labels, minlength=len(names))
    if missing := [name for name, count in zip(names, counts, strict=True) if not count]:
        raise PipelineError(
            f"no training images of {', '.join(missing[:5])}: raise min_images_per_class, or leave the class out"
        )


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    classes: int,
    strength: float,
    weights: np.ndarray | None = None,
) -> Head:
    """The regression of `labels` [n] on `features` [n, width]; C is `strength`, `weights` [classes] are the loss's."""
    basis = _Basis.of(features)
    return basis.head(_solve(basis.reduced(features), labels, classes, [strength], weights, TOLERANCE)[0])


def cross_validate(
    features: np.ndarray,
    labels: np.ndarray,
    classes: int,
    strengths: Sequence[float] = STRENGTHS,
    weights: np.ndarray | None = None,
    seed: int = 1,
) -> Path:
    """Logits of every example by regressions that have not seen it, for each of `strengths` (ascending)."""
    rows = _Basis.of(features).reduced(features)
    logits = np.zeros((len(strengths), len(labels), classes), np.float32)
    for seen, held in _folds(labels, seed):
        for number, solved in enumerate(_solve(rows[seen], labels[seen], classes, strengths, weights, _COMPARED)):
            logits[number, held] = rows[held] @ solved[:-1] + solved[-1]
    return Path(logits, labels, tuple(strengths))


def balanced_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """[classes]: inverse to the classes' frequencies, with a mean of 1 over the examples."""
    counts = np.maximum(np.bincount(labels, minlength=classes), 1)
    return len(labels) / (classes * counts)


def _folds(labels: np.ndarray, seed: int):
    """Stratified as far as the classes go: of a class with fewer examples than folds some folds hold out none."""
    import warnings

    folds = min(FOLDS, int(np.bincount(labels).max()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield from StratifiedKFold(max(folds, 2), shuffle=True, random_state=seed).split(labels, labels)


@dataclass(frozen=True)
class _Basis:
    """Centre, scale and, where there are fewer examples than numbers, an orthogonal basis of what the examples span.

    The solution of a regression with a squared penalty lies in that span, so nothing is lost (Hastie and Tibshirani,
    Efficient quadratic regularization for expression arrays, 2004); 1,000 examples of 2,672 numbers are solved as
    1,000 numbers.
    """

    mean: np.ndarray
    scale: float
    directions: np.ndarray | None

    @classmethod
    def of(cls, features: np.ndarray) -> "_Basis":
        mean = features.mean(axis=0, dtype=np.float64)
        scale = float(np.sqrt((features.var(axis=0, dtype=np.float64)).sum()))
        if len(features) >= features.shape[1]:
            return cls(mean, scale, None)
        with _threads(features):
            directions, _ = np.linalg.qr(((features - mean) / scale).T)
        return cls(mean, scale, directions)

    def reduced(self, features: np.ndarray) -> np.ndarray:
        if self.directions is None:
            return ((features - self.mean.astype(np.float32)) / np.float32(self.scale)).astype(np.float32)
        return ((features - self.mean) / self.scale) @ self.directions

    def head(self, solved: np.ndarray) -> Head:
        kernel = solved[:-1] if self.directions is None else self.directions @ solved[:-1]
        kernel = kernel / self.scale
        return Head(kernel.astype(np.float32), (solved[-1] - self.mean @ kernel).astype(np.float32))


def _threads(rows: np.ndarray):
    """Small products take longer to share among threads than to compute, on a busy machine a hundred times as long."""
    return threadpool_limits(1 if rows.size < _WORTH_THREADS else None)


def _solve(
    rows: np.ndarray,
    labels: np.ndarray,
    classes: int,
    strengths: Sequence[float],
    weights: np.ndarray | None,
    tolerance: float,
) -> list[np.ndarray]:
    """[width + 1, classes] for each strength: kernel and, last, bias; each starts from the solution before."""
    share = np.ones(classes) if weights is None else weights
    start = np.zeros((rows.shape[1] + 1, classes))
    found = []
    with _threads(rows):
        for strength in strengths:
            start = _minimum(rows, labels, share, strength, start, tolerance)
            found.append(start)
    return found


def _minimum(
    rows: np.ndarray, labels: np.ndarray, weights: np.ndarray, strength: float, start: np.ndarray, tolerance: float
) -> np.ndarray:  # fmt: skip
    n = len(rows)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        theta = flat.reshape(start.shape)
        loss, gradient = 0.0, np.zeros_like(theta)
        for first in range(0, n, CHUNK):
            part, truth = rows[first : first + CHUNK], labels[first : first + CHUNK]
            scores = part @ theta[:-1].astype(part.dtype) + theta[-1]
            total = logsumexp(scores, axis=1)
            every = np.arange(len(part))
            loss += float((weights[truth] * (total - scores[every, truth])).sum())
            errors = np.exp(scores - total[:, None])
            errors[every, truth] -= 1
            errors *= weights[truth][:, None]
            gradient[:-1] += part.T @ errors.astype(part.dtype)
            gradient[-1] += errors.sum(axis=0)
        loss += float((theta[:-1] ** 2).sum()) / (2 * strength)
        gradient[:-1] += theta[:-1] / strength
        return loss / n, (gradient / n).ravel()

    options = {"maxiter": 3000, "maxfun": 6000, "gtol": tolerance, "ftol": 1e-15}
    return minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options=options).x.reshape(start.shape)
