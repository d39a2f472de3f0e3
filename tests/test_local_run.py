"""The whole graph for real, as a user starts it: `python pipeline.py run` on a tiny sample."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.helpers.local_runs import TINY, command, statuses, summary_of

STAGES = ["query", "fetch", "assemble", "tensorboard", "train", "evaluate", "serve"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """The temporary folder of the runs here."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def finished(root, scratch):
    done = command("run", "--root", root, "--name", "tiny", *TINY, env={**os.environ, "TMPDIR": str(scratch)})
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_nothing_is_left_in_the_temporary_folder(finished, scratch):
    assert os.listdir(scratch) == []


def test_every_stage_runs_and_is_summarised(root, finished):
    summary = summary_of(root / "tiny")
    assert summary["status"] == "succeeded"
    assert [task["name"] for task in summary["tasks"]] == STAGES
    assert {task["status"] for task in summary["tasks"]} == {"succeeded"}
    assert all(task["seconds"] > 0 for task in summary["tasks"])
    assert summary["parameters"]["train_epochs"] == 2 and summary["parameters"]["data_source"] == "sample"
    metrics = summary["metrics"]
    assert 0 <= metrics["test_accuracy"] <= 1 and 0 <= metrics["validation_accuracy"] <= 1
    total = sum(metrics[f"examples_{split}"] for split in ("train", "validation", "test"))
    assert 150 < total <= 200, "five classes of at most 40, a few of them broken or duplicates"
    for name in ("dataset", "model", "tensorboard", "evaluation_report", "data_report"):
        assert Path(summary["artifacts"][name]).exists(), name


def test_the_output_is_a_line_a_stage_and_what_to_look_at_next(root, finished):
    lines = finished.stdout.splitlines()
    ended = [line.split()[0] for line in lines if line.rstrip().endswith(" s")]
    assert sorted(ended) == sorted(STAGES)
    chain = [stage for stage in ended if stage != "tensorboard"]  # which waits for no other
    assert chain == [stage for stage in STAGES if stage != "tensorboard"]
    assert "KFP Executor" not in finished.stdout, "kfp's log belongs into the run's folder"
    assert "KFP Executor" in (root / "tiny" / "log.txt").read_text()
    for word in ("data_report.html", "evaluation_report.html", "pipeline.py serve", "pipeline.py predict"):
        assert word in finished.stdout
    assert (root / "latest").resolve() == (root / "tiny").resolve()


def test_the_reports_need_nothing_from_outside(root, finished):
    for page in (root / "tiny").glob("*.html"):
        text = page.read_text()
        assert text.startswith("<!doctype html>")
        assert not any(mark in text for mark in ('src="http', "@import", '<link rel="stylesheet"')), page


def test_predict_uses_the_latest_model(root, finished, tmp_path):
    from components.shared import sample

    row = sample.rows(1)[0]
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(sample.picture(f"sample:1/{row['object_id']}"))
    done = command("predict", picture, "--root", root, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    labels = (root / "tiny" / "artifacts" / "train" / "classifier" / "labels.txt").read_text().splitlines()
    values = [prediction["probability"] for prediction in answer["predictions"]]
    assert {prediction["label"] for prediction in answer["predictions"]} == set(labels)
    assert values == sorted(values, reverse=True) and sum(values) == pytest.approx(1, abs=1e-3)


def test_similar_shows_the_original_of_a_planted_copy_first(root, finished, tmp_path):
    from components.artifacts import embeddings
    from components.shared import sample

    known = embeddings.read(str(root / "tiny" / "artifacts" / "train" / "classifier")).works["object_id"].to_pylist()
    museum = {str(object_id): drawing for object_id, (_, drawing) in sample._museum(1).items()}
    copies = {name: drawing for name, drawing in museum.items() if drawing.get("fault") in sample.DUPLICATES}
    originals = {
        copy: original
        for copy, drawing in copies.items()
        for original in known
        if drawing | {"fault": None} == museum[original] | {"fault": None} and copy != original
    }
    assert len(originals) > 1
    paths = [tmp_path / f"{copy}.jpg" for copy in originals]
    for path in paths:
        path.write_bytes(sample.picture(f"sample:1/{path.stem}"))
    done = command("similar", *paths, "--root", root, "--top", 2, "--json")
    assert done.returncode == 0, done.stderr
    found = [[work["object_id"] for work in json.loads(line)["works"]] for line in done.stdout.splitlines()]
    for (copy, original), names in zip(originals.items(), found, strict=True):
        # The copy itself may be one of the works.
        assert original == [name for name in names if name != copy][0]


def test_a_picture_that_is_none_is_said(root, finished, tmp_path):
    (tmp_path / "page.jpg").write_text("<html>")
    done = command("predict", tmp_path / "page.jpg", tmp_path / "absent.jpg", "--root", root)
    assert done.returncode == 1
    assert done.stdout.count("error: ") == 2 and "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_failing_step_says_why_and_the_run_goes_on_from_there_with_what_is_changed(root, tmp_path):
    wrong, right = root / "wrong.weights.h5", root / "right.weights.h5"
    wrong.write_bytes(b"these are no weights")
    right.write_bytes(_mobilenet_weights())
    (tmp_path / "model.tflite").write_bytes(b"this is no model")
    parameters = ["model=mobilenet_025", f"weights={wrong}", f"champion={tmp_path}", "serve_enabled=false"]
    done = command("run", "--root", root, "--name", "broken", *TINY, *parameters)
    assert done.returncode == 1
    summary = summary_of(root / "broken")
    assert (summary["status"], summary["stopped_at"]) == ("failed", "train")
    assert wrong.name in summary["error"] and "Traceback" not in done.stdout
    assert f"error: train: {summary['error']}" in done.stdout
    assert "--resume" in done.stdout

    again = command("run", "--root", root, "--name", "broken", "--resume", f"weights={right}")
    assert again.returncode == 1 and summary_of(root / "broken")["stopped_at"] == "evaluate", again.stdout
    before = dict.fromkeys(STAGES[: STAGES.index("train")], "cached")
    ended = {"train": "succeeded", "evaluate": "failed", "serve": "pending"}
    assert statuses(root / "broken") == before | ended
    model = root / "broken" / "artifacts" / "train" / "classifier" / "model.tflite"
    written = model.stat().st_mtime_ns

    once_more = command("run", "--root", root, "--name", "broken", "--resume", "champion=")
    assert once_more.returncode == 0, once_more.stdout
    summary = summary_of(root / "broken")
    assert summary["status"] == "succeeded" and "error" not in summary
    assert statuses(root / "broken") == before | {"train": "cached", "evaluate": "succeeded", "serve": "skipped"}
    assert model.stat().st_mtime_ns == written, "nothing is trained again"


def _mobilenet_weights() -> bytes:
    code = (
        "import sys, keras; model = keras.applications.MobileNet(alpha=0.25, include_top=False, weights=None);"
        "model.save_weights('made.weights.h5'); sys.stdout.buffer.write(open('made.weights.h5', 'rb').read())"
    )
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        return subprocess.run([sys.executable, "-c", code], cwd=folder, stdout=-1, env=environment, check=True).stdout


def test_an_error_is_shown_letter_by_letter(root):
    name = "absent [/bold] [red]x[/red].csv"
    done = command("run", "--root", root, "--name", "words", "source=table", f"table={name}", "label=x")
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert name in line and line == f"error: query: {summary_of(root / 'words')['error']}"


@pytest.mark.parametrize("name", ["latest", "a/b", "two words"])
def test_a_name_that_cannot_be_one_is_said(root, name):
    done = command("run", "--root", root / "never", "--name", name)
    assert done.returncode == 2 and done.stderr.startswith("error: --name") and done.stderr.count("\n") == 1


def test_what_is_not_there_is_said_before_any_work(root):
    for assignment, words in (("weights=absent.h5", "there is no such file"), ("gpus=32", "this machine has")):
        done = command("run", "--root", root / "never", assignment)
        assert done.returncode == 2 and words in done.stderr
    assert not (root / "never").exists()


def test_nothing_to_resume_is_said(root):
    done = command("run", "--root", root / "empty", "--resume")
    assert done.returncode == 2 and done.stderr.startswith("error: nothing to resume in")


def test_review_opens_the_reports_that_ask(root, finished):
    done = command("review", "tiny", "--root", root, env={**os.environ, "BROWSER": "echo opened %s"})
    assert done.returncode == 0, done.stderr
    reports = [
        f"file://{root}/tiny/artifacts/{place}" for place in ("assemble/data_report", "evaluate/evaluation_report")
    ]
    opened = [line for line in done.stdout.splitlines() if line.startswith("opened ")]
    assert opened and set(opened) <= {f"opened {report}" for report in reports}
    assert "label_corrections=corrections.csv" in done.stdout
    assert command("review", "nowhere", "--root", root).returncode == 2
