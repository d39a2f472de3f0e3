import numpy as np
import pytest

from components.evaluate import metrics, words
from tests.helpers.findings import analysis, findings


@pytest.mark.parametrize(
    "skill, judgement, kind",
    [
        (0.0, "No better than guessing: accuracy ", "fail"),
        (1.0, "Weak, though better than guessing, except for", "warn"),
        (2.0, "Fair: it passed the gate.", "warn"),
        (6.0, "Good: it passed the gate.", "ok"),
    ],
)
def test_the_judgement_follows_the_skill(skill, judgement, kind):
    text, found_kind = words.headline(findings(analysis(skill=skill)))
    assert text.startswith(judgement) and found_kind == kind


def test_a_good_model_may_still_not_pass():
    text, kind = words.headline(findings(analysis(skill=4.0), minimum=0.9999))
    assert (text, kind) == ("Good, but it did not pass the gate.", "fail")


def two_classes(missed: int) -> metrics.Analysis:
    """100 pictures of `common`, all right, and 20 of `rare`, of which `missed` are taken for `common`."""
    targets = np.array([0] * 100 + [1] * 20)
    answers = np.array([0] * (100 + missed) + [1] * (20 - missed))
    probabilities = np.where(answers[:, None] == [0, 1], 0.95, 0.05)
    return metrics.analyse(probabilities, targets, ["common", "rare"])


def test_a_class_that_is_mostly_missed_is_named_at_once():
    found = findings(two_classes(missed=11))
    assert words.headline(found)[0].startswith("Weak, though better than guessing, except for rare")
    assert words.weaknesses(found) == "Weakest class: rare, 11 of 20 missed, most often taken for common (11)."


def test_many_weak_classes_are_counted():
    assert "except for 40 of the 40 classes" in words.headline(findings(analysis(n=2000, classes=40, skill=0.5)))[0]


def test_slices_that_stand_below_are_named():
    found = two_classes(missed=11)
    column = ["early" if right else "late" for right in found.correct]
    text = words.weaknesses(findings(found, columns={"period": column}))
    assert text.endswith("Clearly below the rest: period late (0 % of 11).")


def test_labels_that_the_model_contradicts():
    assert words.contradicted(two_classes(missed=1)).startswith("1 picture contradicts its label with a confidence of")
    assert words.contradicted(two_classes(missed=3)).startswith("3 pictures contradict their labels")
    assert words.contradicted(two_classes(missed=0)) == ""


def test_calibration_says_which_way():
    sure = metrics.analyse(np.tile([0.99, 0.01], (100, 1)), np.array([0, 1] * 50), ["a", "b"])
    assert "off by 49.0 percentage points on average: it is surer than it should be" in words.calibration(sure)


def test_the_summary_survives_hostile_labels():
    probabilities = np.tile([0.9, 0.1], (20, 1))
    found = findings(metrics.analyse(probabilities, np.array([0, 1] * 10), ["a|b", "<script>*x*</script>"]))
    summary = words.markdown(found)
    assert "\\<script\\>\\*x\\*" in summary and "<script>" not in summary
    assert "always answering a\\|b" in summary


@pytest.mark.parametrize("share, text", [(1, "100 %"), (0.934, "93.4 %"), (0.93, "93 %"), (0, "0 %")])
def test_percent(share, text):
    assert words.percent(share) == text


def test_listed():
    assert words.listed(["a"], 3) == "a"
    assert words.listed(["a", "b", "c"], 3) == "a, b and c"
    assert words.listed(["a", "b", "c", "d"], 2) == "a, b and 2 more"
