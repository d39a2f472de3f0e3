"""Is a classifier better than always answering the largest class, and than its own answers in random order.

Accuracy alone does not say it: where one class has 85 % of the images, 0.82 is less than nothing. And a mean over the
classes alone does not say it of six images. So three measures count, each with what chance does to it.
"""

from dataclasses import dataclass

import numpy as np

from components.evaluate.metrics import Analysis, wilson

SIGNIFICANCE = 0.05
_DEALS = 1000


@dataclass(frozen=True)
class Measure:
    """One score beside what guessing gives.

    Attributes:
        low: the lower end of its 95 % interval.
        guessed: the score of guessing, and `by`, how it guesses.
        p_value: how often answers dealt at random score as well.
    """

    name: str
    value: float
    low: float
    guessed: float
    by: str
    p_value: float

    @property
    def beaten(self) -> bool:
        """Whether the score is above that of guessing, by more than chance."""
        return self.low > self.guessed and self.p_value <= SIGNIFICANCE

    def __str__(self) -> str:
        return f"{self.name} {self.value:.3f} (95 % interval from {self.low:.3f}) against {self.guessed:.3f} {self.by}"


@dataclass(frozen=True)
class Guessing:
    """A classifier beside guessing, on `pictures` test images."""

    pictures: int
    measures: tuple[Measure, ...]

    @property
    def beaten(self) -> bool:
        """Whether the classifier is better by every measure."""
        return all(measure.beaten for measure in self.measures)

    def __str__(self) -> str:
        if self.beaten:
            return f"better than guessing: {self.measures[0]}; {self.measures[1]}"
        short = next(measure for measure in self.measures if not measure.beaten)
        few = f"; {self.pictures} test pictures are too few to tell" if short.value > short.guessed else ""
        return f"no better than guessing: {short}{few}"


def compare(analysis: Analysis) -> Guessing:
    """Compares accuracy with the largest class's share, balanced accuracy and macro F1 with answers dealt at random.

    The random answers keep how often each class is answered (a permutation test, see Good, Permutation Tests, 2000);
    the interval is the bootstrap's, and for the accuracy not narrower than Wilson's: few images that are all right
    have a bootstrap interval of no width.
    """
    largest, share = analysis.majority
    dealt = _deal(analysis.targets, analysis.predictions, len(analysis.labels))
    correct = int(analysis.correct.sum())
    lows = {name: analysis.intervals[name][0] for name in ("accuracy", "macro_recall", "macro_f1")}
    lows["accuracy"] = min(lows["accuracy"], wilson(correct, len(analysis.targets))[0])
    titles = {"accuracy": "accuracy", "macro_recall": "balanced accuracy", "macro_f1": "macro F1"}

    def measure(name: str, guessed: float, by: str) -> Measure:
        value = analysis.scores[name]
        p_value = float((dealt[name] >= value - 1e-9).mean())
        return Measure(titles[name], value, lows[name], guessed, by, p_value)

    macro = [measure(name, float(dealt[name].mean()), "by chance") for name in ("macro_recall", "macro_f1")]
    return Guessing(len(analysis.targets), (measure("accuracy", share, f"for always answering {largest}"), *macro))


def _deal(targets: np.ndarray, answers: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """{score: [_DEALS]} of the same answers in random order."""
    random = np.random.default_rng(0)
    hits = np.empty([_DEALS, classes], np.int64)
    for row in hits:
        dealt = random.permutation(answers)
        row[:] = np.bincount(targets[dealt == targets], minlength=classes)
    support, predicted = (np.bincount(indexes, minlength=classes) for indexes in (targets, answers))
    present = support > 0
    return {
        "accuracy": hits.sum(axis=1) / support.sum(),
        "macro_recall": (hits / np.maximum(support, 1))[:, present].mean(axis=1),
        "macro_f1": (2 * hits / np.maximum(support + predicted, 1))[:, present].mean(axis=1),
    }
