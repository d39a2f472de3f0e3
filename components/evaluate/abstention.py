"""How the model does where it may say "I do not know": sets of labels, and images unlike what it learned from."""

from dataclasses import dataclass

import numpy as np

from components.artifacts.uncertainty import Uncertainty

# What the curves are drawn at.
COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99)
_SIZES = 4


@dataclass(frozen=True)
class Outcome:
    """On the test split, at one `coverage` that was asked for.

    Attributes:
        covered: share of the sets that hold the truth.
        size: mean number of labels in a set.
        answered: share of the images that get one label; `accuracy`: the share of these that are right, None of none.
    """

    coverage: float
    covered: float
    size: float
    answered: float
    accuracy: float | None


@dataclass(frozen=True)
class Abstention:
    """`at` the coverage that the parameter asks for; the `curve` at COVERAGES.

    Attributes:
        sizes: (number of labels in the set, share of the images), as words and numbers.
        unlike: share of the images that are taken for unlike the training images.
    """

    at: Outcome
    curve: tuple[Outcome, ...]
    sizes: tuple[tuple[str, float], ...]
    unlike: float

    def metrics(self) -> dict[str, float]:
        """Flat numbers for the run's page."""
        found = {"coverage": self.at.covered, "mean_set_size": self.at.size, "answered": self.at.answered}
        found |= {"unlike": self.unlike}
        return found if self.at.accuracy is None else found | {"answered_accuracy": self.at.accuracy}


def measure(
    known: Uncertainty, probabilities: np.ndarray, targets: np.ndarray, unlike: np.ndarray, coverage: float
) -> Abstention:
    """Of `probabilities` [n, classes], `targets` [n] class indexes and `unlike` [n] bool, by what is `known`."""
    counts = known.sets(probabilities, coverage).sum(axis=1)
    names = ["none", "one", *(str(size) for size in range(2, _SIZES)), f"{_SIZES} or more"]
    shares = [(names[size], float((np.minimum(counts, _SIZES) == size).mean())) for size in range(_SIZES + 1)]
    outcomes = [_outcome(known, probabilities, targets, unlike, each) for each in (coverage, *COVERAGES)]
    return Abstention(outcomes[0], tuple(outcomes[1:]), tuple(shares), float(unlike.mean()))


def _outcome(
    known: Uncertainty, probabilities: np.ndarray, targets: np.ndarray, unlike: np.ndarray, coverage: float
) -> Outcome:
    sets = known.sets(probabilities, coverage)
    answered = (sets.sum(axis=1) == 1) & ~unlike
    right = probabilities.argmax(axis=1) == targets
    return Outcome(
        coverage=coverage,
        covered=float(sets[np.arange(len(targets)), targets].mean()),
        size=float(sets.sum(axis=1).mean()),
        answered=float(answered.mean()),
        accuracy=float(right[answered].mean()) if answered.any() else None,
    )
