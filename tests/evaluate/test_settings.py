import subprocess
import sys
from dataclasses import asdict

import pytest

from components.artifacts import verdict
from components.evaluate.settings import Settings
from components.shared.errors import PipelineError

GOOD = Settings(0.5, True, 0.1, "")


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"min_accuracy": 1.5}, "min_accuracy=1.5 is not allowed: use a number from 0 to 1"),
        ({"max_class_regression": -0.1}, "max_class_regression=-0.1 is not allowed"),
        ({"champion": "https://museum.example"}, "is a web address; give the model's folder or URI, or service:NAME"),
        ({"champion": "service:"}, "champion=service= is not allowed: use a-z"),
        ({"champion": "/no/such/folder"}, "champion=/no/such/folder is not allowed: there is no such folder"),
    ],
)
def test_what_is_not_allowed(change, reason):
    with pytest.raises(PipelineError, match=reason):
        Settings(**asdict(GOOD) | change)


@pytest.mark.parametrize("champion", ["", "s3://bucket/model", "service:museum-classifier", "."])
def test_what_a_champion_can_be(champion):
    assert Settings(0.5, True, 0.1, champion).champion == champion


def test_a_wrong_value_stops_a_run_before_it_starts(tmp_path):
    command = [sys.executable, "pipeline.py", "run", "min_accuracy=1.5", "--root", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.strip().startswith("error: eval_min_accuracy=1.5 is not allowed")
    assert not list(tmp_path.iterdir())


def test_a_refused_model_is_no_champion(tmp_path):
    verdict.Verdict(False, ("accuracy 0.410 is below min_accuracy 0.5",)).save(str(tmp_path))
    with pytest.raises(PipelineError, match=r"its evaluation refused this model \(accuracy 0.410 is .* that passed"):
        Settings(0.5, True, 0.1, str(tmp_path))
    verdict.Verdict(True, ("accuracy 0.710 is at least min_accuracy 0.5",)).save(str(tmp_path))
    assert Settings(0.5, True, 0.1, str(tmp_path)).champion == str(tmp_path)
    (tmp_path / "verdict.json").write_text("{}")
    with pytest.raises(PipelineError, match="is no verdict of the evaluate step"):
        Settings(0.5, True, 0.1, str(tmp_path))
