"""Better than guessing, or not: models made of answers, whose worth is known."""

import re

import numpy as np
import pytest

from components.evaluate import guessing, metrics


def judged(targets: list[int], answers: list[int], classes: int) -> guessing.Guessing:
    """A model that answers `answers` to pictures of `targets`, always as sure."""
    probabilities = np.full((len(targets), classes), 0.05 / classes)
    probabilities[np.arange(len(targets)), answers] += 0.95
    return guessing.compare(metrics.analyse(probabilities, np.array(targets), [f"class {i}" for i in range(classes)]))


@pytest.mark.parametrize(
    ("targets", "answers", "classes", "beaten", "reason"),
    [
        # 170 and 30 pictures of noise: nearly always the larger class.
        ([0] * 170 + [1] * 30, [0] * 164 + [1] * 6 + [0] * 30, 2, False, "accuracy 0.820 .* against 0.850 for always"),
        ([0] * 33 + [1] * 6, [0] * 39, 2, False, "accuracy 0.846 .* against 0.846 for always answering class 0"),
        # Above the largest class's share, and by no more than its interval is wide.
        ([0] * 60 + [1] * 40, [0] * 60 + [1] * 5 + [0] * 35, 2, False, "against 0.600 .*100 test pictures are too few"),
        ([0] * 600 + [1] * 400, [0] * 600 + [1] * 100 + [0] * 300, 2, True, "balanced accuracy 0.625 .* by chance"),
        # Tiny splits: all right may still be luck.
        ([0], [0], 2, False, "against 1.000"),
        ([0, 0, 1, 1], [0, 0, 1, 1], 2, False, "4 test pictures are too few to tell"),
        ([0, 1, 2, 3], [0, 1, 2, 3], 4, True, "accuracy 1.000"),
        ([0] * 5 + [1] * 5, [0] * 5 + [1] * 5, 2, True, "accuracy 1.000"),
        # As the embedded sample: 61 pictures of three classes, three of them wrong.
        ([0] * 20 + [1] * 21 + [2] * 20, [0] * 18 + [1] * 22 + [2] * 21, 3, True, "balanced accuracy 0.9"),
    ],
)
def test_guessing(targets, answers, classes, beaten, reason):
    found = judged(targets, answers, classes)
    assert found.beaten == beaten
    start = "better than guessing" if beaten else "no better than guessing"
    assert str(found).startswith(start)
    assert re.search(reason, str(found)), str(found)


@pytest.mark.slow
def test_answers_dealt_at_random_pass_hardly_ever():
    """Of 100 models that know nothing, on splits of all sizes and shapes, at most one in twenty."""
    random, passed = np.random.default_rng(7), 0
    for _ in range(100):
        classes, n = int(random.integers(2, 8)), int(random.integers(4, 300))
        shares = random.dirichlet(np.ones(classes))
        targets, answers = (random.choice(classes, n, p=shares).tolist() for _ in range(2))
        passed += judged(targets, answers, classes).beaten
    assert passed <= 5


def test_many_classes_take_seconds():
    random = np.random.default_rng(0)
    targets = random.integers(0, 200, 4000)
    answers = np.where(random.random(4000) < 0.3, targets, random.integers(0, 200, 4000))
    assert judged(targets.tolist(), answers.tolist(), 200).beaten
