"""The head's regression equals scikit-learn's, for few and for many examples, and says what it cannot fit."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from components.shared.errors import PipelineError
from components.train.worker import regression


def examples(n: int, width: int, classes: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping clouds, [n, width] float32, and their labels, every class with at least three."""
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.repeat(np.arange(classes), 3), random.integers(0, classes, n - 3 * classes)])
    centres = random.normal(0, 1, (classes, width))
    return (centres[labels] + random.normal(0, 2, (n, width))).astype(np.float32) / 10 + 0.3, labels.astype(np.int32)


@pytest.mark.parametrize("n, width, classes", [(60, 200, 4), (400, 30, 5), (50, 80, 2)])
@pytest.mark.parametrize("balanced", [False, True])
def test_it_is_that_of_scikit_learn(n, width, classes, balanced):
    features, labels = examples(n, width, classes)
    weights = regression.balanced_weights(labels, classes) if balanced else None
    ours = softmax(regression.fit(features, labels, classes, 30.0, weights).logits(features), axis=1)
    centred = features.astype(np.float64) - features.mean(axis=0)
    scaled = centred / np.sqrt((centred**2).sum(axis=1).mean())
    # Two classes as scikit-learn's softmax has them: its default for two is another penalty.
    theirs = LogisticRegression(C=30.0, tol=1e-8, max_iter=5000, class_weight="balanced" if balanced else None)
    if classes == 2:
        theirs.set_params(C=60.0)  # one vector of the two's difference, whose square is twice theirs
    assert ours == pytest.approx(theirs.fit(scaled, labels).predict_proba(scaled), abs=2e-3)


def test_many_examples_are_solved_in_chunks_and_few_numbers_directly(monkeypatch):
    features, labels = examples(500, 20, 3)
    whole = regression.fit(features, labels, 3, 10.0)
    monkeypatch.setattr(regression, "CHUNK", 64)
    assert regression.fit(features, labels, 3, 10.0).kernel == pytest.approx(whole.kernel, abs=1e-3)


def test_cross_validation_never_shows_an_example_to_its_own_regression():
    random = np.random.default_rng(1)
    features, labels = random.normal(0, 1, (120, 300)).astype(np.float32), random.integers(0, 2, 120)
    path = regression.cross_validate(features, labels, 2)
    assert path.logits.shape == (len(regression.STRENGTHS), 120, 2)
    # Noise: what has seen the examples knows them all, what has not guesses.
    assert (regression.fit(features, labels, 2, 1000.0).logits(features).argmax(1) == labels).all()
    assert (path.logits.argmax(axis=2) == labels).mean(axis=1).max() < 0.65


def test_a_class_of_three_is_fitted_and_validated():
    features, labels = examples(63, 30, 3)
    labels[3:] = np.where(labels[3:] == 0, 1, labels[3:])  # the first class keeps its first three
    path = regression.cross_validate(features, labels, 3)
    assert np.isfinite(path.logits).all() and 0 <= path.best() < len(path.strengths)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda features, labels: features.fill(np.nan), "not finite"),
        (lambda features, labels: features.fill(0.5), "same for every image"),
        (lambda features, labels: labels.__setitem__(labels == 1, 0), "no training images of b"),
    ],
)
def test_what_cannot_be_fitted_is_one_line(change, words):
    features, labels = examples(30, 10, 3)
    change(features, labels)
    with pytest.raises(PipelineError, match=words) as caught:
        regression.check(features, labels, ["a", "b", "c"])
    assert "\n" not in str(caught.value)
