"""The deployment step on one machine: a real server process is started, tried and stopped."""

import json
import shutil

import pytest

from components.serve import deploy
from components.serve.deploy import Settings
from components.serve.smoke import SmokeTestError, fewest_right
from components.shared.errors import PipelineError
from tests.serve import dataset_fixture

SETTINGS = Settings("deployment", "colours", "image:1", 1, 0)


def test_server_is_started_tried_and_stopped(classifier_dir, tmp_path):
    data = dataset_fixture.build(tmp_path / "data")
    summary = tmp_path / "summary.md"
    deployment = deploy.deploy(SETTINGS, data, classifier_dir, classifier_dir, str(summary))
    assert (deployment.result.pictures, deployment.result.right) == (24, 24)
    assert "24 of 24 test pictures right" in str(deployment)
    text = summary.read_text()
    assert deployment.version in text and "24 of 24" in text


def test_wrong_answers_fail_the_step(classifier_dir, tmp_path):
    data = dataset_fixture.build(tmp_path / "data", wrong=20)
    with pytest.raises(SmokeTestError, match="right for 4 of 24 test pictures, at least 16 were expected"):
        deploy.deploy(SETTINGS, data, classifier_dir, classifier_dir, str(tmp_path / "summary.md"))
    assert not (tmp_path / "summary.md").exists()


def test_server_that_does_not_start_says_why(classifier_dir, tmp_path):
    broken = shutil.copytree(classifier_dir, tmp_path / "broken")
    card = json.loads((broken / "model_card.json").read_text())
    (broken / "model_card.json").write_text(json.dumps(card | {"stored_size": 512}))
    data = dataset_fixture.build(tmp_path / "data")
    with pytest.raises(PipelineError, match="the server does not start: .*stored_size 512"):
        deploy.deploy(SETTINGS, data, str(broken), str(broken), str(tmp_path / "summary.md"))


def test_no_test_picture(classifier_dir, tmp_path):
    data = dataset_fixture.build(tmp_path / "data", examples=0)
    with pytest.raises(PipelineError, match="test split has no picture"):
        deploy.deploy(SETTINGS, data, classifier_dir, classifier_dir, str(tmp_path / "summary.md"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"serving": "lambda"}, "deployment, kserve"),
        ({"service": "Museum_1"}, "a-z, 0-9"),
        ({"service": "x" * 41}, "at most 40"),
        ({"replicas": 0}, "at least 1"),
        ({"canary_percent": 101}, "0 to 100"),
    ],
)
def test_settings_that_are_not_possible(change, message):
    with pytest.raises(PipelineError, match=message):
        Settings(**{**vars(SETTINGS), **change})


def test_only_chance_is_forgiven():
    assert fewest_right(32, None) == 0
    assert fewest_right(32, 1.0) == 31
    assert fewest_right(32, 0.9) == 21
    assert fewest_right(4, 0.5) == 0
