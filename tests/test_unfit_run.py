"""A data set that breaks a rule ends the local run before training, and its report is there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TINY = ["max_images_per_class=24", "image_size=64", "epochs=1", "shards=1"]


@pytest.mark.slow
def test_a_broken_rule_ends_the_run_with_its_reason_and_the_report(tmp_path):
    options = ["--root", str(tmp_path), "--name", "unfit", *TINY, "min_examples_per_class=22"]
    done = subprocess.run([sys.executable, "pipeline.py", "run", *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    summary = json.loads((tmp_path / "unfit" / "summary.json").read_text())
    assert (summary["status"], summary["stopped_at"]) == ("failed", "train")
    reason = "5 classes have fewer than 22 train examples"
    assert reason in summary["error"] and reason in done.stdout and "Traceback" not in done.stdout
    assert reason in Path(summary["artifacts"]["data_report"]).read_text()
    assert summary["metrics"]["rules_fail"] == 1
    tasks = {task["name"]: task["status"] for task in summary["tasks"]}
    assert tasks["assemble"] == "succeeded" and tasks["train"] == "failed"
