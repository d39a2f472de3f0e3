import json
import os
import subprocess
import sys

import pytest

from cli import main, runs
from components.artifacts.verdict import Verdict
from components.shared.errors import PipelineError


def finished(root, name, status):
    run = runs.create(root, name, {"epochs": 1})
    run.summary["status"] = status
    run.save()
    os.close(run.lock)  # as if its process had ended
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
    for find, message in ((runs.latest, "no finished run"), (runs.newest, "no run in")):
        with pytest.raises(PipelineError, match=message):
            find(tmp_path)
    for name in ("first", "second"):
        run = finished(tmp_path, name, "succeeded")
        runs.point_latest(run)
        assert runs.latest(tmp_path).folder == run.folder


def refused(root, name):
    run = finished(root, name, runs.REFUSED)
    run.summary |= {"verdict": {"reasons": ["too weak"]}, "artifacts": {"model": "its/model"}}
    run.save()
    return run


def test_a_refused_run_is_never_the_latest(tmp_path):
    """Not the first of all, not after a good one, and not one that was good before it was resumed."""
    bad = refused(tmp_path, "bad")
    with pytest.raises(PipelineError, match=r"bad was refused \(too weak\); to use it .* add --model its/model"):
        runs.latest(tmp_path)
    assert runs.newest(tmp_path).folder == bad.folder == runs.newest_refused(tmp_path).folder
    with pytest.raises(PipelineError, match="nothing to resume .*add --name NAME"):
        runs.unfinished(tmp_path, "")
    good, better = finished(tmp_path, "good", "succeeded"), finished(tmp_path, "better", "succeeded")
    runs.point_latest(better)
    assert runs.newest_refused(tmp_path) is None
    runs.leave_latest(bad)
    assert runs.latest(tmp_path).folder == better.folder
    refused(tmp_path, "worse")
    runs.leave_latest(better)
    assert runs.latest(tmp_path).folder == good.folder
    good.summary["status"] = better.summary["status"] = runs.FAILED
    good.save(), better.save()
    runs.leave_latest(good)
    assert not (tmp_path / "latest").is_symlink()


@pytest.mark.parametrize("command", ["serve", "predict"])
def test_what_was_refused_is_said(tmp_path, monkeypatch, capsys, command):
    monkeypatch.setattr(main, "_become", lambda module, arguments: 0)
    monkeypatch.setattr("cli.predict.predict", lambda *arguments: 0)
    line = [command, "--root", str(tmp_path), *["x.jpg"] * (command == "predict")]
    refused(tmp_path, "first")
    assert main.main(line) == 2 and "first was refused (too weak)" in capsys.readouterr().err
    good = finished(tmp_path, "good", "succeeded")
    good.summary["artifacts"] = {"model": "somewhere"}
    good.save()
    runs.point_latest(good)
    assert main.main(line) == 0 and capsys.readouterr().err == ""
    refused(tmp_path, "second")
    assert main.main(line) == 0
    assert capsys.readouterr().err == "note: this is good; the model of second was refused: too weak\n"
    Verdict(False, ("hopeless",)).save(str(tmp_path / "model"))
    assert main.main([*line, "--model", str(tmp_path / "model")]) == 0
    assert capsys.readouterr().err == "note: its evaluation refused this model: hopeless\n"


def test_the_server_is_told_how_the_run_tested_its_model(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(main, "_become", lambda module, arguments: started.append(arguments) or 0)
    run = finished(tmp_path, "good", "succeeded")
    run.summary |= {"artifacts": {"model": "somewhere"}, "metrics": {"test_accuracy": 0.876}}
    run.save()
    runs.point_latest(run)
    main.main(["serve", "--root", str(tmp_path)])
    main.main(["serve", "--model", "elsewhere"])
    assert started[0][:2] == ["--model", "somewhere"] and "--test-accuracy 0.876" in " ".join(started[0])
    assert started[1][:2] == ["--model", "elsewhere"] and "--test-accuracy" not in started[1]


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


def test_a_run_that_is_still_running_is_nobody_elses(tmp_path):
    finished(tmp_path, "old", "failed")
    code = (
        "import sys; from pathlib import Path; from cli import runs;"
        f"runs.create(Path({str(tmp_path)!r}), 'new', {{}}); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(PipelineError, match="new is still running"):
            runs.unfinished(tmp_path, "new")
        held = runs.unfinished(tmp_path, "")
        assert held.folder.name == "old", "the newest that nobody works on"
        os.close(held.lock)
        other.kill()
    assert runs.unfinished(tmp_path, "").folder.name == "new", "a process that was killed leaves no lock"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"status": "failed"}', "\x00"])
def test_a_damaged_summary_is_passed_over(tmp_path, content):
    finished(tmp_path, "good", "failed")
    finished(tmp_path, "torn", "failed")
    (tmp_path / "torn" / "summary.json").write_text(content)
    with pytest.raises(PipelineError, match="torn is no run"):
        runs.unfinished(tmp_path, "torn")
    assert runs.unfinished(tmp_path, "").folder.name == "good"


@pytest.mark.parametrize("name", ["latest", "a/b", "../b", ".hidden", "-x", "a b", "é", "x" * 101])
def test_a_name_that_cannot_be_a_folder_is_refused(tmp_path, name):
    with pytest.raises(PipelineError, match="--name .*: use letters, digits"):
        runs.create(tmp_path / "runs", name, {})
    assert not (tmp_path / "runs").exists()


def test_a_root_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PipelineError, match="cannot make .* choose another --root"):
        runs.create(tmp_path / "file", "first", {})
