"""Multinomial logistic regression on frozen features: the head of a pre-trained network, and how it is chosen.

The objective is scikit-learn's: the sum of the examples' losses, plus the squared norm of the kernel over 2 C; the bias
is free. It is minimised by SciPy's L-BFGS-B to convergence, in chunks of rows and without a copy of the features, so
that 200,000 examples of 2,672 numbers need the 2.1 GB of their features and little beside.
"""

from collections.abc import Iterator, Sequence
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
    rows = basis.reduced(features)
    return basis.head(_solve(rows, labels, classes, [strength], weights, basis.origin, TOLERANCE)[0])


def cross_validate(
    features: np.ndarray,
    labels: np.ndarray,
    classes: int,
    strengths: Sequence[float] = STRENGTHS,
    weights: np.ndarray | None = None,
    seed: int = 1,
) -> Path:
    """Logits of every example by regressions that have not seen it, for each of `strengths` (ascending)."""
    basis = _Basis.of(features)
    rows = basis.reduced(features)
    logits = np.zeros((len(strengths), len(labels), classes), np.float32)
    for seen, held in _folds(labels, seed):
        solutions = _solve(rows[seen], labels[seen], classes, strengths, weights, basis.origin, _COMPARED)
        for number, solved in enumerate(solutions):
            logits[number, held] = basis.origin.scores(rows[held], solved)
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

    whole: "_Origin"
    directions: np.ndarray | None

    @classmethod
    def of(cls, features: np.ndarray) -> "_Basis":
        whole = _Origin.of(features)
        if len(features) >= features.shape[1]:
            return cls(whole, None)
        with _threads(features):
            directions, _ = np.linalg.qr(((features - whole.mean) / whole.scale).T)
        return cls(whole, directions)

    @property
    def origin(self) -> "_Origin":
        """Of what `reduced` returns."""
        return self.whole if self.directions is None else _Origin(np.zeros(self.directions.shape[1]), 1.0)

    def reduced(self, features: np.ndarray) -> np.ndarray:
        """The features in the basis, or, where there is none, the features themselves."""
        if self.directions is None:
            return features
        return ((features - self.whole.mean) / self.whole.scale) @ self.directions

    def head(self, solved: np.ndarray) -> Head:
        kernel = solved[:-1] if self.directions is None else self.directions @ solved[:-1]
        kernel = kernel / self.whole.scale
        return Head(kernel.astype(np.float32), (solved[-1] - self.whole.mean @ kernel).astype(np.float32))


@dataclass(frozen=True)
class _Origin:
    """Mean [width] and scale of rows: the regression is of (rows - mean) / scale, which is never written down."""

    mean: np.ndarray
    scale: float

    @classmethod
    def of(cls, rows: np.ndarray) -> "_Origin":
        mean = rows.mean(axis=0, dtype=np.float64)
        spread = sum(float(((part - mean) ** 2).sum()) for part in _chunks(rows))
        return cls(mean, float(np.sqrt(spread / len(rows))))

    def scores(self, rows: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """[n, classes] of kernel and, last, bias in `theta` [width + 1, classes]."""
        kernel = theta[:-1] / self.scale
        return rows @ kernel.astype(rows.dtype) + (theta[-1] - self.mean @ kernel)

    def gradient(self, rows: np.ndarray, errors: np.ndarray) -> np.ndarray:
        """[width + 1, classes]: how the loss changes with theta; `errors` [n, classes]: how with the scores."""
        total = errors.sum(axis=0)
        kernel = (rows.T @ errors.astype(rows.dtype) - np.outer(self.mean, total)) / self.scale
        return np.concatenate([kernel, total[None]])


def _chunks(rows: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(rows), CHUNK):
        yield rows[first : first + CHUNK]


def _threads(rows: np.ndarray):
    """Small products take longer to share among threads than to compute, on a busy machine a hundred times as long."""
    return threadpool_limits(1 if rows.size < _WORTH_THREADS else None)


def _solve(
    rows: np.ndarray,
    labels: np.ndarray,
    classes: int,
    strengths: Sequence[float],
    weights: np.ndarray | None,
    origin: _Origin,
    tolerance: float,
) -> list[np.ndarray]:
    """[width + 1, classes] for each strength: kernel and, last, bias; each starts from the solution before."""
    share = np.ones(classes) if weights is None else weights
    start = np.zeros((rows.shape[1] + 1, classes))
    found = []
    with _threads(rows):
        for strength in strengths:
            start = _minimum(rows, labels, share[labels], strength, start, origin, tolerance)
            found.append(start)
    return found


def _minimum(
    rows: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    strength: float,
    start: np.ndarray,
    origin: _Origin,
    tolerance: float,
) -> np.ndarray:
    n = len(rows)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        theta = flat.reshape(start.shape)
        loss, gradient = 0.0, np.zeros_like(theta)
        for part, truth, weight in zip(*map(_chunks, (rows, labels, weights)), strict=True):
            scores, every = origin.scores(part, theta), np.arange(len(part))
            total = logsumexp(scores, axis=1)
            loss += float((weight * (total - scores[every, truth])).sum())
            errors = np.exp(scores - total[:, None])
            errors[every, truth] -= 1
            gradient += origin.gradient(part, errors * weight[:, None])
        loss += float((theta[:-1] ** 2).sum()) / (2 * strength)
        gradient[:-1] += theta[:-1] / strength
        return loss / n, (gradient / n).ravel()

    options = {"maxiter": 3000, "maxfun": 6000, "gtol": tolerance, "ftol": 1e-15}
    return minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options=options).x.reshape(start.shape)
