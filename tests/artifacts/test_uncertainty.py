"""Sets of labels with a promised coverage, and images unlike those that were learned from."""

import numpy as np
import pytest

from components.artifacts import uncertainty
from components.artifacts.uncertainty import REFUSED
from components.shared.parameters import ParameterError

LABELS = ["a", "b", "c", "d"]


def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a model that is sure of some: probabilities [count, 4], classes drawn from them, features [count, 12]."""
    generator = np.random.default_rng(seed)
    rows = generator.dirichlet([0.35] * 4, count)
    targets = (rows.cumsum(axis=1) > generator.random((count, 1))).argmax(axis=1)
    scale = np.array([3.0, 2.0, 1.0] + [0.05] * 9)
    return rows, targets, 4 + generator.normal(size=(count, 12)) * scale


@pytest.fixture(scope="module")
def measured() -> uncertainty.Uncertainty:
    rows, targets, features = drawn(600, 1)
    return uncertainty.fit(rows, targets, drawn(900, 2)[2], features)


@pytest.mark.parametrize("coverage", [0.7, 0.9, 0.95])
def test_the_set_holds_the_truth_as_often_as_promised(coverage):
    shares = []
    for seed in range(10):
        rows, targets, features = drawn(400, 100 + seed)
        found = uncertainty.fit(rows, targets, features, features)
        test, truth, _ = drawn(400, 200 + seed)
        shares.append(found.sets(test, coverage)[np.arange(len(truth)), truth].mean())
    assert np.mean(shares) == pytest.approx(coverage, abs=0.02)


def test_the_finite_sample_correction():
    """Of 9 validation images 0.9 asks for the largest score, and more than that cannot be promised."""
    rows = np.stack([np.linspace(0.1, 0.9, 9), 1 - np.linspace(0.1, 0.9, 9)], axis=1)
    found = uncertainty.fit(rows, np.zeros(9, int), np.eye(9), np.eye(9))
    assert found.threshold(0.9) == pytest.approx(0.9)
    assert found.threshold(0.8) == pytest.approx(0.8)
    assert found.threshold(0.95) == np.inf and found.sets(rows, 0.95).all()


def test_few_like_the_learned_are_refused_and_most_others(measured):
    _, _, alike = drawn(2000, 3)
    assert measured.unlike(alike).mean() == pytest.approx(REFUSED, abs=0.02)
    assert measured.unlike(np.random.default_rng(4).normal(size=(100, 12))).mean() > 0.9


def test_a_decision_is_one_label_or_none(measured):
    rows = np.array([[0.97, 0.01, 0.01, 0.01], [0.4, 0.38, 0.21, 0.01], [0.97, 0.01, 0.01, 0.01]])
    features = np.vstack([drawn(2, 5)[2], -np.ones((1, 12))])
    sure, torn, strange = measured.decide(LABELS, rows, features, 0.9)
    assert sure.fields() == {"label": "a", "reason": None, "label_set": ["a"], "unlike": False}
    assert torn.label is None and torn.labels[:2] == ("a", "b") and torn.reason == "uncertain" and not torn.unlike
    assert strange.fields() == {"label": None, "reason": "uncertain", "label_set": ["a"], "unlike": True}


def test_where_hardly_anything_was_seen_nothing_breaks():
    rows, targets, features = drawn(3, 6)
    found = uncertainty.fit(rows, targets, features[:1], features)
    assert np.isfinite(found.distance(features)).all()
    assert not found.unlike(features).any() and found.sets(rows, 0.9).all()
    constant = uncertainty.fit(rows, targets, np.ones((5, 12)), np.ones((3, 12)))
    assert constant.unlike(features - 9).shape == (3,)


def test_it_is_stored_as_it_is(measured, tmp_path):
    measured.save(str(tmp_path))
    read = uncertainty.load(str(tmp_path / uncertainty.FILE_NAME))
    _, _, features = drawn(20, 7)
    assert (read.distance(features) == measured.distance(features)).all()
    assert read.threshold(0.9) == measured.threshold(0.9)


@pytest.mark.parametrize("coverage", [0, 1, -1, 90, float("nan")])
def test_an_impossible_coverage_is_refused(measured, coverage):
    with pytest.raises(ParameterError, match="coverage"):
        measured.threshold(coverage)
