"""What the probabilities say about a classifier: pure numbers, no model, no files, no images."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm
from sklearn import metrics as sklearn_metrics

from components.evaluate import bootstrap
from components.evaluate.bootstrap import Interval
from components.evaluate.calibration import Reliability, reliability, without_temperature
from components.evaluate.scores import score
from components.shared.intervals import wilson

_CURVE_POINTS = 200


@dataclass(frozen=True)
class ClassScore:
    """How one class fares. `roc_auc`, `average_precision`: None if the test split has none, or only this class.

    Attributes:
        support: images of this class; predicted: images taken for it.
        confused_with, confused: the class its images are most often taken for, and how often; "" and 0 if never.
    """

    label: str
    support: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float | None
    roc_auc: float | None
    average_precision: float | None
    confused_with: str
    confused: int


@dataclass(frozen=True)
class Slice:
    """Accuracy on the images whose `column` is `value`; `standing` is below, above, or "" (cannot be told apart)."""

    column: str
    value: str
    support: int
    accuracy: float
    interval: Interval
    standing: str


@dataclass(frozen=True)
class Analysis:
    """A classifier on a split of n images.

    Attributes:
        probabilities: [n, classes] float64, rows sum to 1; targets, predictions: [n] class indexes.
        confidences: [n] probability of the predicted class.
        confusion: [classes, classes] counts; rows are the true class, columns the predicted one.
        scores: name -> value, see `score`, and ece; intervals: their 95 % bootstrap intervals.
        before, after: calibration without and with the temperature that is in the model.
    """

    labels: tuple[str, ...]
    probabilities: np.ndarray
    targets: np.ndarray
    predictions: np.ndarray
    confidences: np.ndarray
    confusion: np.ndarray
    scores: dict[str, float]
    intervals: dict[str, Interval]
    classes: tuple[ClassScore, ...]
    before: Reliability
    after: Reliability

    @property
    def correct(self) -> np.ndarray:
        """[n] bool."""
        return self.predictions == self.targets

    @property
    def majority(self) -> tuple[str, float]:
        """The largest class of the split and its share: the accuracy of always answering it."""
        counts = np.bincount(self.targets, minlength=len(self.labels))
        return self.labels[int(counts.argmax())], float(counts.max() / counts.sum())


def analyse(
    probabilities: np.ndarray,
    targets: np.ndarray,
    labels: list[str],
    temperature: float = 1.0,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> Analysis:
    """Everything the report says about a classifier's answers.

    Args:
        probabilities: [n, classes], n > 0.
        targets: [n] class indexes.
        temperature: the one inside `probabilities`, to show calibration without it.
        groups: [n] strings or numbers; images of one group (an artist, an object) are resampled together.
    """
    probabilities = _normalized(probabilities)
    targets = np.asarray(targets, np.int64)
    predictions = probabilities.argmax(axis=1)
    confidences = probabilities.max(axis=1)
    confusion = sklearn_metrics.confusion_matrix(targets, predictions, labels=range(len(labels)))
    correct = predictions == targets
    raw = without_temperature(probabilities, temperature)
    after = reliability(confidences, correct)
    return Analysis(
        labels=tuple(labels),
        probabilities=probabilities,
        targets=targets,
        predictions=predictions,
        confidences=confidences,
        confusion=confusion,
        scores=score(probabilities, targets) | {"ece": after.ece},
        intervals=bootstrap.intervals(probabilities, targets, groups, seed),
        classes=_class_scores(probabilities, targets, confusion, labels),
        before=reliability(raw.max(axis=1), correct),
        after=after,
    )


def slices(correct: np.ndarray, columns: dict[str, list[str]], min_support: int = 5) -> list[Slice]:
    """Accuracy per value of each column, the largest first; values with fewer than `min_support` images are left out.

    A slice stands below (above) if its Wilson interval lies wholly below (above) the overall accuracy, at 95 % for all
    values of the column together (Bonferroni): of 100 values, five would else stand out by chance.
    """
    found = [_column_slices(correct, column, np.array(values, str), min_support) for column, values in columns.items()]
    return [part for parts in found if len(parts) > 1 for part in parts]


def _column_slices(correct: np.ndarray, column: str, values: np.ndarray, min_support: int) -> list[Slice]:
    names, counts = np.unique(values, return_counts=True)
    names = names[counts >= min_support]
    strict = float(norm.isf(0.025 / max(len(names), 1)))
    found = []
    for name in names:
        right = correct[values == name]
        hits = int(right.sum())
        low, high = wilson(hits, len(right), strict)
        standing = "below" if high < correct.mean() else "above" if low > correct.mean() else ""
        found.append(Slice(column, str(name), len(right), hits / len(right), wilson(hits, len(right)), standing))
    return sorted(found, key=lambda part: (-part.support, part.value))


def class_curves(analysis: Analysis, index: int) -> tuple[tuple, tuple]:
    """One against the rest: ((false positive rate, true positive rate), (recall, precision)) of a class.

    The split must have images of the class and of another.
    """
    truth = analysis.targets == index
    scores = analysis.probabilities[:, index]
    false, true, _ = sklearn_metrics.roc_curve(truth, scores)
    precision, recall, _ = sklearn_metrics.precision_recall_curve(truth, scores)
    return (false, true), (recall, precision)


def micro_roc(analysis: Analysis, points: int = _CURVE_POINTS) -> tuple[list[float], list[float], list[float]]:
    """(fpr, tpr, thresholds) over all (image, class) pairs: at most `points`, all finite, thresholds falling.

    Kubeflow keeps a curve as metadata, where an infinite threshold (scikit-learn's first) is no JSON: it is 1 here.
    """
    own = np.zeros(analysis.probabilities.shape, bool)
    own[np.arange(len(own)), analysis.targets] = True
    true, false = np.sort(analysis.probabilities[own]), np.sort(analysis.probabilities[~own])
    shares = np.linspace(0, 1, (points - 1) // 2)
    quantiles = [np.quantile(scores, shares, method="nearest") for scores in (true, false)]
    thresholds = np.unique(np.concatenate(quantiles))[::-1]
    rates = [1 - np.searchsorted(scores, thresholds, "left") / len(scores) for scores in (false, true)]
    return [0.0, *rates[0].tolist()], [0.0, *rates[1].tolist()], [1.0, *np.minimum(thresholds, 1.0).tolist()]


def top_confusions(analysis: Analysis, count: int) -> list[tuple[int, int, int]]:
    """The most frequent mistakes, (true class, predicted class, images), most frequent first."""
    wrong = analysis.confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(wrong, axis=None, kind="stable")[::-1][:count]
    pairs = [tuple(int(i) for i in np.unravel_index(position, wrong.shape)) for position in order]
    return [(true, predicted, int(wrong[true, predicted])) for true, predicted in pairs if wrong[true, predicted]]


def condensed(analysis: Analysis, classes: int) -> tuple[list[str], list[list[int]]]:
    """Labels and confusion matrix of at most `classes` rows: those with most mistakes, the others summed up in one.

    A viewer cannot show 500 x 500 cells, and Kubeflow's metadata store cannot hold them.
    """
    matrix, labels = analysis.confusion, list(analysis.labels)
    if len(labels) <= classes:
        return labels, matrix.tolist()
    mistakes = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * matrix.diagonal()
    kept = np.sort(np.argsort(-mistakes, kind="stable")[: classes - 1])
    others = np.setdiff1d(np.arange(len(labels)), kept)
    member = np.zeros([classes, len(labels)], np.int64)
    member[np.arange(classes - 1), kept] = 1
    member[-1, others] = 1
    names = [labels[index] for index in kept] + [f"({len(others)} other classes)"]
    return names, (member @ matrix @ member.T).tolist()


def _class_scores(
    probabilities: np.ndarray, targets: np.ndarray, confusion: np.ndarray, labels: list[str]
) -> tuple[ClassScore, ...]:
    support, predicted, hits = confusion.sum(axis=1), confusion.sum(axis=0), confusion.diagonal()
    wrong = confusion - np.diag(hits)
    rows = []
    for index, label in enumerate(labels):
        n, m, k = int(support[index]), int(predicted[index]), int(hits[index])
        worst = int(wrong[index].argmax())
        count = int(wrong[index, worst])
        auc, average_precision = ranking(targets == index, probabilities[:, index])
        rows.append(
            ClassScore(
                label=label,
                support=n,
                predicted=m,
                precision=k / m if m else None,
                recall=k / n if n else None,
                f1=2 * k / (n + m) if n else None,
                roc_auc=auc,
                average_precision=average_precision,
                confused_with=labels[worst] if count else "",
                confused=count,
            )
        )
    return tuple(rows)


def ranking(truth: np.ndarray, scores: np.ndarray) -> tuple[float | None, float | None]:
    """Area under the ROC curve and average precision of [n] scores; None, None unless `truth` has both kinds.

    The values of scikit-learn's roc_auc_score and average_precision_score, 20 times as fast: with 500 classes those
    two took most of the evaluation.
    """
    own, n = np.sort(scores[truth]), len(scores)
    if not 0 < len(own) < n:
        return None, None
    ordered = np.sort(scores)
    below, through = np.searchsorted(ordered, own, "left"), np.searchsorted(ordered, own, "right")
    own_below, own_through = np.searchsorted(own, own, "left"), np.searchsorted(own, own, "right")
    others_below, others_tied = below - own_below, (through - below) - (own_through - own_below)
    auc = (others_below + others_tied / 2).sum() / (len(own) * (n - len(own)))
    return float(auc), float(((len(own) - own_below) / (n - below)).mean())


def _normalized(probabilities: np.ndarray) -> np.ndarray:
    values = np.asarray(probabilities, np.float64)
    return values / values.sum(axis=1, keepdims=True)
