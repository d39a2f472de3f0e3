import json

import pytest

from cli import runs
from components.shared.errors import PipelineError


def finished(root, name, status):
    run = runs.create(root, name, {"epochs": 1})
    run.summary["status"] = status
    run.save()
    return run


def test_a_new_run_has_a_folder_that_says_it_is_running(tmp_path):
    run = runs.create(tmp_path, "first", {"epochs": 3})
    summary = json.loads((tmp_path / "first" / "summary.json").read_text())
    assert summary["status"] == "running" and summary["parameters"] == {"epochs": 3}
    assert runs.open_run(run.folder) == run


def test_a_run_never_overwrites_another(tmp_path):
    runs.create(tmp_path, "first", {})
    with pytest.raises(PipelineError, match="exists; choose another --name, or continue it with --resume"):
        runs.create(tmp_path, "first", {})


def test_latest_follows_the_last_success(tmp_path):
    with pytest.raises(PipelineError, match="no finished run"):
        runs.latest(tmp_path)
    for name in ("first", "second"):
        run = finished(tmp_path, name, "succeeded")
        runs.point_latest(run)
        assert runs.latest(tmp_path).folder == run.folder


def test_resume_takes_the_run_that_did_not_succeed(tmp_path):
    failed = finished(tmp_path, "failed", "failed")
    finished(tmp_path, "good", "succeeded")
    assert runs.unfinished(tmp_path, "").folder == failed.folder
    assert runs.unfinished(tmp_path, "good").folder.name == "good"


def test_nothing_to_resume_is_said(tmp_path):
    finished(tmp_path, "good", "succeeded")
    with pytest.raises(PipelineError, match="nothing to resume"):
        runs.unfinished(tmp_path, "")
    with pytest.raises(PipelineError, match="is no run"):
        runs.unfinished(tmp_path, "absent")


def test_a_root_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PipelineError, match="cannot make .* choose another --root"):
        runs.create(tmp_path / "file", "first", {})
