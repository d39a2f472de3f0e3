import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from components.evaluate import bootstrap, metrics
from components.evaluate.scores import in_top, score
from tests.helpers.findings import analysis
from tests.helpers.findings import probabilities as answers


def test_scores_are_those_of_scikit_learn():
    probabilities, targets = answers(500, 7, 1.5)
    scores = score(probabilities, targets)
    predictions = probabilities.argmax(axis=1)
    assert scores["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(targets, predictions))
    assert scores["top5_accuracy"] == pytest.approx(sklearn_metrics.top_k_accuracy_score(targets, probabilities, k=5))
    assert scores["log_loss"] == pytest.approx(sklearn_metrics.log_loss(targets, probabilities))
    for average in ("macro", "weighted"):
        values = sklearn_metrics.precision_recall_fscore_support(targets, predictions, average=average)
        for name, value in zip(("precision", "recall", "f1"), values):
            assert scores[f"{average}_{name}"] == pytest.approx(value)


def test_a_class_that_is_never_predicted_has_precision_0():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    scores = score(probabilities, np.array([0, 0, 1]))
    assert scores["macro_precision"] == pytest.approx((2 / 3 + 0) / 2) and scores["macro_recall"] == 0.5


def test_ties_do_not_count_in_the_model_s_favour():
    """int8 models give many equal probabilities: eight equal classes cannot all be among the first five."""
    probabilities = np.full([8, 8], 1 / 8)
    assert in_top(probabilities, np.arange(8), 5).tolist() == [True] * 5 + [False] * 3
    assert score(probabilities, np.arange(8))["top5_accuracy"] == 5 / 8
    # The same order as that of the answers: argmax takes the first of equals.
    assert in_top(probabilities, np.arange(8), 1).tolist() == [True] + [False] * 7


def test_ranking_is_that_of_scikit_learn_with_ties_too():
    random = np.random.default_rng(1)
    for levels in (4, 1000):
        truth = random.random(300) < 0.2
        scores = random.integers(0, levels, 300) / levels + 0.2 * truth
        auc, average_precision = metrics.ranking(truth, scores)
        assert auc == pytest.approx(sklearn_metrics.roc_auc_score(truth, scores))
        assert average_precision == pytest.approx(sklearn_metrics.average_precision_score(truth, scores))
    assert metrics.ranking(np.zeros(3, bool), np.ones(3)) == (None, None)


def test_a_class_without_pictures_is_left_out_of_the_averages():
    probabilities, targets = answers(200, 4, 6.0)
    wider = np.hstack([probabilities, np.full([200, 1], 1e-9)])
    assert score(wider, targets)["macro_recall"] == score(probabilities, targets)["macro_recall"]
    absent = metrics.analyse(wider, targets, list("abcde")).classes[4]
    assert (absent.support, absent.recall, absent.roc_auc, absent.average_precision) == (0, None, None, None)


def test_an_impossible_truth_costs_much_but_not_infinitely():
    assert np.isfinite(score(np.array([[0.0, 1.0]]), np.array([0]))["log_loss"])


def test_the_bootstrap_interval_covers_the_true_accuracy():
    """Over 25 samples of a model that is right 4 times in 5, its 95 % interval misses 0.8 a few times at most."""
    missed = 0
    for seed in range(25):
        right = np.random.default_rng(seed).random(300) < 0.8
        probabilities = np.where(right[:, None], [[0.9, 0.1]], [[0.1, 0.9]])
        low, high = bootstrap.intervals(probabilities, np.zeros(300, int), seed=seed)["accuracy"]
        missed += not low <= 0.8 <= high
    assert missed <= 4


def test_pictures_of_one_group_count_as_one_trial():
    right = np.repeat(np.random.default_rng(0).random(30) < 0.7, 10)
    probabilities = np.where(right[:, None], [[0.9, 0.1]], [[0.1, 0.9]])
    targets, groups = np.zeros(300, int), np.repeat(np.arange(30), 10)
    alone = bootstrap.intervals(probabilities, targets)["accuracy"]
    together = bootstrap.intervals(probabilities, targets, groups)["accuracy"]
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])


def test_every_score_has_an_interval_around_it():
    found = analysis(n=400, classes=7, skill=2.0)
    assert set(found.intervals) == set(found.scores) and len(found.scores) == 10
    for name, (low, high) in found.intervals.items():
        assert 0 <= low <= found.scores[name] <= high, name


def test_the_interval_of_the_calibration_error_reaches_down_for_a_calibrated_model():
    """A calibrated model has an error of 0, a sample of it one above; percentiles of resamples lie higher still."""
    reached = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        sure = random.uniform(0.5, 1, 300)
        targets = (random.random(300) > sure).astype(int)
        low, high = bootstrap.intervals(np.stack([sure, 1 - sure], axis=1), targets, seed=seed)["ece"]
        reached += low < 0.02 and high < 0.15
    assert reached >= 17


def test_wilson_stays_within_0_and_1():
    assert metrics.wilson(0, 0) == (0.0, 1.0)
    assert metrics.wilson(10, 10) == (pytest.approx(0.722, abs=0.001), 1.0)
    assert metrics.wilson(5, 10) == (pytest.approx(0.237, abs=0.001), pytest.approx(0.763, abs=0.001))


def test_a_slice_is_marked_only_if_chance_does_not_explain_it():
    correct = np.array([True] * 90 + [False] * 10 + [True] * 40 + [False] * 60 + [True, False, True, True, True])
    column = ["easy"] * 100 + ["hard"] * 100 + ["small"] * 5
    found = {part.value: part for part in metrics.slices(correct, {"period": column})}
    assert [found[name].standing for name in ("easy", "hard", "small")] == ["above", "below", ""]
    assert found["hard"].accuracy == 0.4


def test_a_column_with_one_value_and_small_values_are_left_out():
    assert not metrics.slices(np.ones(10, bool), {"period": ["all"] * 8 + ["few"] * 2})


def test_of_many_slices_none_stands_out_by_chance():
    random = np.random.default_rng(0)
    correct, values = random.random(4000) < 0.8, random.integers(0, 100, 4000).astype(str).tolist()
    assert not [part for part in metrics.slices(correct, {"artist": values}) if part.standing]


def test_the_roc_curve_is_what_kubeflow_can_store():
    found = analysis(n=3000, classes=20)
    false, true, thresholds = metrics.micro_roc(found)
    assert len(false) == len(true) == len(thresholds) <= 200
    assert np.isfinite([false, true, thresholds]).all() and max(thresholds) <= 1
    assert (np.diff(false) >= 0).all() and (np.diff(true) >= 0).all() and (np.diff(thresholds) <= 0).all()
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    truth = np.eye(20)[found.targets].ravel()
    area = sklearn_metrics.roc_auc_score(truth, found.probabilities.ravel())
    assert sklearn_metrics.auc(false, true) == pytest.approx(area, abs=0.002)


def test_a_large_confusion_matrix_is_condensed_without_losing_a_picture():
    found = analysis(n=5000, classes=300)
    labels, matrix = metrics.condensed(found, 40)
    assert len(labels) == len(matrix) == len(matrix[0]) == 40
    assert np.sum(matrix) == 5000
    assert labels[-1] == "(261 other classes)"
    kept = found.labels.index(labels[3])
    assert matrix[3][3] == found.confusion[kept, kept]


def test_top_confusions_are_sorted_and_only_mistakes():
    found = analysis(n=2000, classes=5, skill=1.0)
    pairs = metrics.top_confusions(found, 8)
    counts = [count for _, _, count in pairs]
    assert counts == sorted(counts, reverse=True) and len(pairs) == 8
    assert all(true != predicted for true, predicted, _ in pairs)
    assert metrics.top_confusions(analysis(classes=3, skill=50.0), 8) == []
