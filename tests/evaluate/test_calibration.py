import numpy as np
import pytest

from components.evaluate.calibration import reliability, without_temperature


def test_a_model_that_means_what_it_says_has_no_error():
    random = np.random.default_rng(0)
    confidences = random.uniform(0.3, 1, 50_000)
    found = reliability(confidences, random.random(50_000) < confidences)
    assert found.ece < 0.01
    assert sum(found.counts) == 50_000


def test_overconfidence_is_measured_and_named():
    found = reliability(np.full(1000, 0.9), np.arange(1000) < 700)
    assert found.ece == pytest.approx(0.2)
    assert found.gap == pytest.approx(0.2)
    assert reliability(np.full(10, 0.6), np.ones(10, bool)).gap == pytest.approx(-0.4)


def test_certainty_falls_into_the_last_bin():
    assert reliability(np.array([1.0, 0.0]), np.array([True, False])).counts == (1, 1)


def test_the_temperature_can_be_undone():
    logits = np.random.default_rng(0).normal(size=(20, 6)) * 3

    def softmax(values: np.ndarray) -> np.ndarray:
        return np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)

    np.testing.assert_allclose(without_temperature(softmax(logits / 2.5), 2.5), softmax(logits), atol=1e-12)
