import numpy as np
import pytest
from scipy.stats import binomtest

from components.evaluate import gate, guessing
from components.evaluate.settings import Settings

LABELS = ("a", "b")


def comparison(gained: int, lost: int, same: int = 100) -> gate.Comparison:
    """Two models that agree on `same` pictures and differ on the others, all of them of class a."""
    targets = np.zeros(same + gained + lost, int)
    new = np.array([0] * same + [0] * gained + [1] * lost)
    old = np.array([0] * same + [1] * gained + [0] * lost)
    return gate.compare("the champion", targets, new, old, LABELS)


def guesses(beaten: bool) -> guessing.Guessing:
    measure = guessing.Measure("accuracy", 0.6, 0.55, 0.5 if beaten else 0.6, "by chance", 0.01)
    return guessing.Guessing(100, (measure, measure))


def judge(accuracy: float, found: gate.Comparison | None, regression: float = 0.1, beaten=True, must=True):
    return gate.judge(Settings(0.5, must, regression, ""), accuracy, guesses(beaten), found)


def test_counts_and_p_value_of_mcnemars_exact_test():
    found = comparison(gained=9, lost=2)
    assert (found.both, found.gained, found.lost, found.neither) == (100, 9, 2, 0)
    assert found.p_value == pytest.approx(binomtest(2, 11).pvalue)
    assert comparison(0, 0).p_value == 1.0


@pytest.mark.parametrize(
    "gained, lost, outcome", [(9, 1, "better"), (1, 9, "worse"), (9, 4, "undecided"), (0, 0, "undecided")]
)
def test_outcome(gained, lost, outcome):
    assert comparison(gained, lost).outcome == outcome


def test_without_a_champion_only_the_accuracy_counts():
    assert judge(0.5, None).passed
    verdict = judge(0.41, None)
    assert not verdict.passed
    assert str(verdict) == "refused: accuracy 0.410 is below min_accuracy 0.5"


def test_a_better_model_passes_and_the_reason_has_the_numbers():
    verdict = judge(0.9, comparison(9, 1))
    assert verdict.passed
    counts = "9 pictures right that the champion gets wrong, and 1 the other way round (McNemar p = 0.021)"
    assert counts in str(verdict)


def test_an_undecided_comparison_leaves_the_champion_where_it_is():
    verdict = judge(0.9, comparison(5, 4))
    assert not verdict.passed
    assert "not shown to be better than the champion, which therefore stays" in str(verdict)


def test_every_reason_is_told_at_once():
    verdict = judge(0.4, comparison(1, 9, same=10))
    assert len(verdict.reasons) == 3
    assert "below min_accuracy" in verdict.reasons[0] and "worse than the champion" in verdict.reasons[1]
    assert "1 class is worse than the champion's by more than max_class_regression 0.1: a" in verdict.reasons[2]


def two_classes(lost_in_b: int, of: int) -> gate.Comparison:
    """A new model that is far better on class a and loses `lost_in_b` of `of` pictures in class b."""
    targets = np.array([0] * 60 + [1] * of)
    old = np.array([1] * 30 + [0] * 30 + [1] * of)
    new = np.array([0] * 60 + [0] * lost_in_b + [1] * (of - lost_in_b))
    return gate.compare("the champion", targets, new, old, LABELS)


def test_a_class_that_got_worse_stops_a_better_model():
    found = two_classes(lost_in_b=3, of=20)
    assert found.outcome == "better"
    assert [change.label for change in found.regressed(0.1)] == ["b"]
    assert found.regressed(0.15) == []
    verdict = judge(0.9, found)
    assert not verdict.passed and "b (recall 1.00 to 0.85)" in str(verdict)
    assert judge(0.9, found, regression=0.15).passed


def test_one_picture_more_or_less_is_no_regression():
    assert two_classes(lost_in_b=1, of=4).regressed(0.1) == []
    assert two_classes(lost_in_b=2, of=4).regressed(0.1)


def test_a_class_without_test_pictures_is_not_compared():
    assert [change.label for change in comparison(3, 2).classes] == ["a"]


def test_a_model_that_is_no_better_than_guessing_is_refused_unless_that_is_allowed():
    verdict = judge(0.82, None, beaten=False)
    assert not verdict.passed and str(verdict).startswith("refused: no better than guessing: accuracy 0.600")
    assert judge(0.82, None, beaten=False, must=False).passed
