"""The single numbers of a classifier: accuracy, top-5, log loss, and averages over its classes."""

import numpy as np

# A probability of exactly 0 (int8 models have them) would make one image's log loss infinite.
SMALLEST = 1e-7


def score(probabilities: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """accuracy, top5_accuracy, log_loss, and macro and weighted precision, recall, f1.

    Args:
        probabilities: [n, classes], n > 0.
        targets: [n] class indexes.
    """
    predictions = probabilities.argmax(axis=1)
    values = {name: float(each.mean()) for name, each in by_picture(probabilities, targets).items()}
    return values | class_averages(targets, predictions, np.ones(len(targets)), probabilities.shape[1])


def by_picture(probabilities: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """What has a value for each image, [n] float64: accuracy and top5_accuracy (0 or 1), log_loss (nats)."""
    return {
        "accuracy": (probabilities.argmax(axis=1) == targets).astype(float),
        "top5_accuracy": in_top(probabilities, targets, 5).astype(float),
        "log_loss": -np.log(np.maximum(_own(probabilities, targets), SMALLEST)),
    }


def in_top(probabilities: np.ndarray, targets: np.ndarray, k: int) -> np.ndarray:
    """[n] bool: whether the true class is among the `k` that the server would answer with.

    Equal probabilities, which int8 models give often, are taken in the order of the labels, as everywhere.
    """
    own = _own(probabilities, targets)[:, None]
    earlier = np.arange(probabilities.shape[1]) < np.asarray(targets)[:, None]
    before = (probabilities > own) | ((probabilities == own) & earlier)
    return before.sum(axis=1) < k


def class_averages(targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray, classes: int) -> dict[str, float]:
    """macro and weighted precision, recall and f1 of [n] images that count `weights` times each.

    Averages are over the classes that the images have; one that is never predicted has precision 0.
    """
    hits = np.bincount(targets, weights * (targets == predictions), classes)
    support, predicted = np.bincount(targets, weights, classes), np.bincount(predictions, weights, classes)
    present = support > 0
    hits, support, predicted = hits[present], support[present], predicted[present]
    rates = {
        "precision": hits / np.maximum(predicted, 1),
        "recall": hits / support,
        "f1": 2 * hits / (support + predicted),
    }
    macro = {f"macro_{name}": float(values.mean()) for name, values in rates.items()}
    # Not `@`: that is BLAS, whose threads wait for each other on a busy machine.
    shares = support / support.sum()
    return macro | {f"weighted_{name}": float((values * shares).sum()) for name, values in rates.items()}


def _own(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return probabilities[np.arange(len(targets)), targets]
