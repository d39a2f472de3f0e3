import numpy as np
import pytest

from components.shared.calibration import fit_temperature, negative_log_likelihood, softmax


def drawn(scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from known probabilities, and logits that are `scale` times too sharp."""
    random = np.random.default_rng(1)
    logits = random.normal(0, 2, [4000, 5])
    labels = np.array([random.choice(5, p=row) for row in softmax(logits)])
    return logits * scale, labels


@pytest.mark.parametrize("scale", [0.25, 1.0, 4.0])
def test_temperature_undoes_the_scale(scale):
    assert fit_temperature(*drawn(scale)) == pytest.approx(scale, rel=0.06)


def test_likelihood_is_lower_everywhere_else():
    logits, labels = drawn(3.0)
    best = fit_temperature(logits, labels)
    lowest = negative_log_likelihood(logits / best, labels)
    assert all(negative_log_likelihood(logits / other, labels) > lowest for other in (best * 0.9, best * 1.1))


def test_extremes_stay_within_the_search():
    right = np.eye(4)[np.arange(40) % 4] * 50
    assert fit_temperature(right, np.arange(40) % 4) >= 0.05
    assert fit_temperature(right, (np.arange(40) + 1) % 4) <= 20
    assert fit_temperature(np.zeros([0, 4]), np.zeros(0, int)) == 1.0
