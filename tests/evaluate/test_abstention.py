"""What the evaluation says of a model that may say "I do not know"."""

import numpy as np
import pytest

from components.artifacts import uncertainty
from components.evaluate import abstention
from tests.helpers.findings import probabilities


def test_sets_and_answers_are_counted():
    rows, targets = probabilities(800, 5, 3.0)
    features = np.random.default_rng(1).normal(size=(800, 6))
    known = uncertainty.fit(rows[:400], targets[:400], features[:400], features[:400])
    unlike = np.zeros(400, bool)
    unlike[:40] = True
    found = abstention.measure(known, rows[400:], targets[400:], unlike, 0.9)
    assert found.at.covered == pytest.approx(0.9, abs=0.05) and found.unlike == 0.1
    sets = known.sets(rows[400:], 0.9)
    single = (sets.sum(axis=1) == 1) & ~unlike
    right = rows[400:].argmax(axis=1) == targets[400:]
    assert found.at.answered == single.mean() and found.at.accuracy == right[single].mean() > right.mean()
    assert sum(share for _, share in found.sizes) == pytest.approx(1)
    assert dict(found.sizes)["one"] == pytest.approx((sets.sum(axis=1) == 1).mean())
    covered = [each.covered for each in found.curve]
    assert covered == sorted(covered) and [each.size for each in found.curve] == sorted(e.size for e in found.curve)


def test_a_model_that_answers_nothing_has_no_accuracy():
    rows, targets = probabilities(50, 3, 0.0)
    known = uncertainty.fit(rows, targets, np.eye(50), np.eye(50))
    found = abstention.measure(known, rows, targets, np.ones(50, bool), 0.9)
    assert found.at.answered == 0 and found.at.accuracy is None and "answered_accuracy" not in found.metrics()
