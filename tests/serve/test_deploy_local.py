"""The deployment step on one machine: a real server process is started, tried and stopped."""

import json
import shutil

import pytest

from components.serve import deploy, smoke
from components.serve.deployment import Settings
from components.serve.smoke import SmokeTestError
from components.shared.errors import PipelineError
from tests.helpers import colour_dataset

SETTINGS = Settings("deployment", "colours", "image:1", 1, 0)
NONE = {"examples": 0}


@pytest.fixture
def run(tmp_path, classifier_dir):
    """Runs the step on a data set; the evaluation was of `evaluated`."""

    def run(model: str = classifier_dir, evaluated: str = classifier_dir, **options) -> deploy.Deployment:
        data = colour_dataset.build(tmp_path / "data", **options)
        folder = tmp_path / "predictions"
        predictions = colour_dataset.evaluate(data, evaluated, folder, model) if options != NONE else ""
        return deploy.deploy(SETTINGS, data, predictions, str(tmp_path / "summary.md"))

    return run


@pytest.fixture
def wrong(classifier_dir, tmp_path) -> str:
    """The classifier with its labels in another order."""
    folder = shutil.copytree(classifier_dir, tmp_path / "wrong")
    card = json.loads((folder / "model_card.json").read_text()) | {"labels": ["blue", "red", "green"]}
    (folder / "model_card.json").write_text(json.dumps(card))
    (folder / "labels.txt").write_text("blue\nred\ngreen\n")
    return str(folder)


def test_server_is_started_tried_and_stopped(run, tmp_path):
    deployment = run()
    assert (deployment.result.pictures, deployment.result.right) == (24, 24)
    assert "24 test pictures answered as in the evaluation (24 rightly)" in str(deployment)
    text = (tmp_path / "summary.md").read_text()
    assert deployment.version in text and "24 test pictures" in text


def test_a_server_that_answers_otherwise_than_the_evaluation_fails_the_step(run, wrong, tmp_path):
    message = r"otherwise than the evaluation for 24 of 24 .* object-0 is blue \(1.00\) to the server and red \(1.00\)"
    with pytest.raises(SmokeTestError, match=message):
        run(model=wrong)
    assert not (tmp_path / "summary.md").exists()


def test_a_model_that_is_weak_in_rare_classes_is_deployed(run):
    """Most of the pictures that are chosen are of the rare classes: 90 % accuracy, but 12 of 32 right."""
    result = run(examples=200, wrong=20, shown="g" * 10 + "b" * 10 + "r" * 180).result
    assert (result.pictures, result.right) == (32, 12)


def test_in_a_notebook_the_server_is_tried_on_the_spot(run, monkeypatch):
    """A notebook's pod is no step of a run: its model lies where no other pod can read it."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.delenv("KFP_POD_NAME", raising=False)
    assert "this machine" in run(examples=3).where


def test_an_evaluation_of_other_pictures_is_refused(run, classifier_dir, tmp_path):
    other = colour_dataset.build(tmp_path / "other", examples=3)
    predictions = colour_dataset.evaluate(other, classifier_dir, tmp_path / "predictions")
    data = colour_dataset.build(tmp_path / "data", examples=24)
    with pytest.raises(PipelineError, match="the evaluation has no answer for test picture object-3"):
        smoke.choose_questions(data, predictions)
    with pytest.raises(PipelineError, match="has no predictions.parquet"):
        smoke.choose_questions(data, str(tmp_path))


def test_server_that_does_not_start_says_why(run, classifier_dir, tmp_path):
    broken = shutil.copytree(classifier_dir, tmp_path / "broken")
    card = json.loads((broken / "model_card.json").read_text())
    (broken / "model_card.json").write_text(json.dumps(card | {"stored_size": 512}))
    with pytest.raises(PipelineError, match="the server does not start: .*stored_size 512"):
        run(model=str(broken))


def test_no_test_picture(run):
    with pytest.raises(PipelineError, match="test split has no picture"):
        run(**NONE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "lambda"}, "deployment, kserve"),
        ({"name": "Museum_1"}, "a-z, 0-9"),
        ({"name": "x" * 41}, "at most 40"),
        ({"replicas": 0}, "from 1 to 1000"),
        ({"canary_percent": 101}, "from 0 to 100"),
    ],
)
def test_settings_that_are_not_possible(change, message):
    with pytest.raises(PipelineError, match=message):
        Settings(**{**vars(SETTINGS), **change})
