"""Temperature scaling: one number that calibrates a classifier's probabilities and changes none of its decisions."""

import numpy as np

_SEARCH = (0.05, 20.0)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T that minimises the negative log-likelihood of softmax(logits / T).

    Args:
        logits: [examples, classes] float, of examples that the model was not trained on.
        labels: [examples] int, the class index of each.

    Returns:
        T within 0.05..20; 1.0 if there are no examples.

    Source: Guo et al., On Calibration of Modern Neural Networks (arXiv:1706.04599), 2017.
    """
    if not len(labels):
        return 1.0
    logits = np.asarray(logits, np.float64)
    low, high = np.log(_SEARCH)
    # The likelihood has one minimum in log T, so a golden-section search finds it.
    ratio = (np.sqrt(5) - 1) / 2
    for _ in range(60):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if negative_log_likelihood(logits / np.exp(left), labels) < negative_log_likelihood(
            logits / np.exp(right), labels
        ):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood in nats of `labels` [examples] under softmax of `logits` [examples, classes]."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities [examples, classes] of `logits` [examples, classes]."""
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)
