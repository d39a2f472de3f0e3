import json
import math
import re
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from pyarrow import parquet

from components.artifacts import classifier, verdict
from components.evaluate.evaluator import EvaluationResult, evaluate_model
from components.evaluate.settings import Settings
from components.shared.errors import PipelineError
from tests.helpers import colour_model
from tests.helpers.evaluation_data import LABELS, write_dataset


def run(dataset: str, model: str, folder: Path, champion: str = "", minimum: float = 0.5) -> EvaluationResult:
    paths = (str(folder / "report.html"), str(folder / "summary.md"), str(folder / "predictions"))
    return evaluate_model(dataset, model, *paths, Settings(minimum, True, 0.1, champion))


@pytest.fixture(scope="module")
def evaluated(colours_dataset, colours_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    return run(colours_dataset, colours_model, folder), folder


def test_the_numbers_are_those_of_the_pictures(evaluated):
    result, _ = evaluated
    assert result.passed and result.labels == LABELS
    assert result.confusion_matrix == [[15, 2, 0], [0, 15, 1], [0, 0, 15]]
    found = result.metrics()
    assert found["test_accuracy"] == pytest.approx(45 / 48, abs=1e-6)
    assert found["saved_model_agreement"] == 1.0 and found["saved_model_accuracy"] == found["test_accuracy"]
    assert found["examples_test"] == 48 and found["latency_ms"] > 0
    assert found["test_accuracy_low"] < 45 / 48 <= found["test_accuracy_high"]


def test_the_metrics_are_plain_finite_numbers(evaluated):
    for name, value in evaluated[0].metrics().items():
        assert type(value) in (int, float) and math.isfinite(value), name
    json.dumps([evaluated[0].confusion_matrix, evaluated[0].roc_curve], allow_nan=False)


def test_the_result_is_said_in_a_sentence(evaluated):
    text = str(evaluated[0])
    assert text.startswith("Good: it passed the gate. 93.8 % of 48 test pictures are classified correctly")
    passed = text.splitlines()[1]
    assert passed.startswith("passed: accuracy 0.938 is at least min_accuracy 0.5; better than guessing: accuracy 0.9")
    assert "against 0.354 for always answering" in passed and "by chance" in passed


def test_the_report_is_one_offline_page_that_begins_with_the_judgement(evaluated):
    html = (evaluated[1] / "report.html").read_text()
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=[\"']?https?:", html)
    assert html.index("Good: it passed the gate.") < html.index("<h2>")
    assert "Weakest class: red, 2 of 17 missed, most often taken for green (2)." in html
    assert "2 of 17 red taken for green" in html
    assert "Picture &lt;45&gt;" in html and "Picture <45>" not in html
    assert html.count("data:image/jpeg") > 10
    assert "https://museum.example/45" in html


def test_it_says_how_it_does_where_it_may_not_know(evaluated):
    found = evaluated[0].metrics()
    assert found["coverage"] == pytest.approx(45 / 48, abs=1e-6) and found["answered"] == found["mean_set_size"] == 1
    assert found["answered_accuracy"] == found["test_accuracy"] and found["unlike"] == 0
    html = (evaluated[1] / "report.html").read_text()
    assert "With a coverage of 90\xa0% it answers 100\xa0% of the test pictures with one label" in html
    assert "| Answered with one label, coverage 0.9 | 1.000 | |" in (evaluated[1] / "summary.md").read_text()


def test_the_summary_gives_the_reason(evaluated):
    summary = (evaluated[1] / "summary.md").read_text()
    assert summary.startswith("# Good: it passed the gate.")
    assert "Passed the gate: accuracy 0.938 is at least min\\_accuracy 0.5; better than guessing" in summary
    assert "| Accuracy | 0.938 |" in summary


def test_every_answer_is_kept(evaluated, colours_model):
    folder = evaluated[1] / "predictions"
    rows = parquet.read_table(folder / "predictions.parquet").to_pylist()
    wrong = [row["object_id"] for row in rows if row["label"] != row["predicted"]]
    assert wrong == ["object-45", "object-46", "object-47"]
    assert rows[0]["probabilities"][0] == pytest.approx(rows[0]["confidence"])
    reference = json.loads((folder / "reference.json").read_text())
    assert reference["predictions"] == {"red": 15, "green": 17, "blue": 16}
    assert sum(reference["confidence"]) == reference["window"] == 48
    assert reference["versions"] == [classifier.digest(colours_model, engine) for engine in ("litert", "savedmodel")]


def test_min_accuracy_decides(colours_dataset, colours_model, tmp_path):
    result = run(colours_dataset, colours_model, tmp_path, minimum=0.95)
    assert not result.passed
    assert "Did not pass the gate: accuracy 0.938 is below min_accuracy 0.95." in (tmp_path / "report.html").read_text()
    assert "Did not pass" in (tmp_path / "summary.md").read_text()
    assert str(result).splitlines()[1] == "refused: accuracy 0.938 is below min_accuracy 0.95"
    reference = json.loads((tmp_path / "predictions" / "reference.json").read_text())
    assert reference["refused"] == "accuracy 0.938 is below min_accuracy 0.95"


def test_an_equal_champion_stays(colours_dataset, colours_model, tmp_path):
    result = run(colours_dataset, colours_model, tmp_path, champion=colours_model)
    assert not result.passed
    assert "not shown to be better than the champion" in str(result)
    assert result.metrics()["champion_accuracy"] == result.metrics()["test_accuracy"]
    assert "Against the champion" in (tmp_path / "report.html").read_text()


def test_a_champion_with_its_labels_in_another_order_is_compared_by_name(colours_dataset, colours_model, tmp_path):
    """The same weights under rotated names: it is wrong nearly always, and not by the order of its columns."""
    rotated = colour_model.build(tmp_path / "rotated", labels=["green", "blue", "red"], saved_model=False)
    result = run(colours_dataset, colours_model, tmp_path, champion=rotated)
    assert result.passed
    # Red pictures are answered green, green ones blue, blue ones red.
    assert result.metrics()["champion_accuracy"] == pytest.approx(0)
    assert "better than the champion by more than chance" in str(result)


def test_a_collection_that_grew_a_class_is_judged(colours_dataset, colours_model, tmp_path):
    """The champion knows pink instead of blue: it is wrong on every blue picture, and the verdict says so."""
    older = colour_model.build(tmp_path / "older", labels=["red", "green", "pink"], saved_model=False)
    result = run(colours_dataset, colours_model, tmp_path, champion=older)
    assert result.passed and "better than the champion by more than chance" in str(result)
    assert result.metrics()["champion_accuracy"] == pytest.approx(30 / 48, abs=1e-6)
    for text in (str(result), (tmp_path / "report.html").read_text(), (tmp_path / "summary.md").read_text()):
        text = text.replace("&#39;", "'").replace("&#x27;", "'")
        assert "the champion does not know 'blue' and is wrong there" in text
        # One of the 33 pictures that are red or green by their labels is a mistake of both: so are two red ones.
        assert "on the other classes: accuracy 0.909 now, 0.909 the champion's" in text
        assert "also knows 'pink', which this model can no longer answer" in text


def test_an_uneven_comparison_is_told(colours_dataset, colours_model, tmp_path):
    """A champion that saw larger pictures, of a data set that was split otherwise."""
    dataset = Path(shutil.copytree(colours_dataset, tmp_path / "data"))
    content = json.loads((dataset / "dataset.json").read_text())
    split = {"seed": 1, "group": "artist", "folds": 0, "fold": 0, "test_fraction": 0.2, "validation_fraction": 0.1}
    (dataset / "dataset.json").write_text(json.dumps(content | {"parameters": split}))
    champion = Path(colour_model.build(tmp_path / "champion", stored_size=96, saved_model=False))
    card = json.loads((champion / "model_card.json").read_text())

    def verdict(parameters: dict | None) -> str:
        card["data"]["parameters"] = parameters or {}
        (champion / "model_card.json").write_text(json.dumps(card))
        return str(run(str(dataset), colours_model, tmp_path, champion=str(champion)))

    assert "its data were split by seed=2 then, 1 now" in verdict(split | {"seed": 2})
    assert "its model card does not say how its data were split" in verdict(None)
    same = verdict(split | {"label": "culture"})
    assert "may have learned from these test pictures" not in same
    assert "trained on pictures of 96 pixels and sees these, of 64, enlarged" in same


def test_a_model_without_mistakes_has_a_report_too(colours_model, tmp_path):
    dataset = write_dataset(tmp_path / "right", [(name, name) for name in LABELS] * 4)
    result = run(dataset, colours_model, tmp_path)
    assert result.metrics()["test_accuracy"] == 1
    assert "Every class is recognised without a mistake." in (tmp_path / "report.html").read_text()


def test_a_class_without_test_pictures_is_named(colours_model, tmp_path):
    dataset = write_dataset(tmp_path / "without-blue", [("red", "red"), ("green", "green"), ("green", "red")] * 4)
    run(dataset, colours_model, tmp_path)
    assert "Not tested, since the test split has no picture of it: blue." in (tmp_path / "report.html").read_text()


def test_one_single_test_picture(colours_model, tmp_path):
    result = run(write_dataset(tmp_path / "one", [("red", "red")]), colours_model, tmp_path)
    assert result.metrics()["test_accuracy"] == 1 and not result.passed and result.metrics()["passed"] == 0


def test_the_verdict_lies_beside_the_classifier(evaluated, colours_dataset, colours_model, tmp_path):
    result, _ = evaluated
    result.leave_verdict(str(tmp_path / "a"), str(tmp_path / "b"))
    assert verdict.load(str(tmp_path / "a")) == verdict.load(str(tmp_path / "b")) == result.findings.verdict
    card = ModelCard.load(tmp_path / "a" / "README.md")
    assert {result.metric_type: result.metric_value for result in card.data.eval_results}["accuracy"] == pytest.approx(
        result.findings.analysis.scores["accuracy"], abs=1e-6
    )
    assert verdict.refusal(str(tmp_path / "a")) == "" and verdict.load(str(tmp_path / "c")) is None
    itself = run(colours_dataset, colours_model, tmp_path, champion=colours_model)
    itself.leave_verdict(str(tmp_path / "a"), str(tmp_path / "a"))
    assert not itself.passed and verdict.load(str(tmp_path / "a")).passed, "the model in service does not refuse itself"


@pytest.mark.parametrize(
    "objects, champion, reason",
    [
        ([], "", "the test split is empty: raise test_fraction"),
        ([("red", "red")], "data", "the champion .*: no model|no model in .*data"),
        ([("red", "red")], "other", "the champion .* has no label in common with the data set: it knows 'cyan'"),
    ],
)
def test_bad_input_is_one_clear_line(colours_model, tmp_path, objects, champion, reason):
    dataset = write_dataset(tmp_path / "data", objects)
    if champion == "other":
        colour_model.build(tmp_path / "other", labels=["cyan", "lime", "pink"], saved_model=False)
    with pytest.raises(PipelineError, match=reason) as raised:
        run(dataset, colours_model, tmp_path, champion=champion and str(tmp_path / champion))
    assert "\n" not in str(raised.value)


def test_a_classifier_without_its_savedmodel(colours_dataset, tmp_path):
    model = colour_model.build(tmp_path / "lite", saved_model=False)
    with pytest.raises(PipelineError, match="expected a SavedModel 1/"):
        run(colours_dataset, model, tmp_path)
