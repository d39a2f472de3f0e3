"""`pipeline.py submit` with the real KFP client against a server that answers as KFP's does."""

import pytest
import yaml

from cli import submit
from cli.main import main
from tests.cli.kfp_server import KfpServer


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))  # the client keeps settings there
    monkeypatch.setattr(submit, "_POLL_SECONDS", 0.01)
    with KfpServer() as server:
        yield server


def test_uploads_a_version_and_starts_a_run(server, capsys):
    assert main(["submit", "--host", server.url, "--name", "first", "--root", "s3://bucket/x", "epochs=7"]) == 0
    (run,) = server.runs
    assert run["display_name"] == "first" and run["experiment_id"] == "e0"
    assert run["runtime_config"]["parameters"]["epochs"] == 7
    assert run["runtime_config"]["pipeline_root"] == "s3://bucket/x"
    version = next(each for each in server.versions if each["display_name"].startswith("museum-classifier-"))
    assert run["pipeline_version_reference"]["pipeline_version_id"] == version["pipeline_version_id"]
    assert "museum collection" in version["description"]
    spec, platform = yaml.safe_load_all(version["package"])
    assert spec["pipelineInfo"]["name"] == "museum-classifier" and platform["platforms"]["kubernetes"]
    printed = capsys.readouterr().out
    assert f"run: {server.url}/#/runs/details/r0" in printed and version["display_name"] in printed


def test_the_same_pipeline_is_uploaded_once(server):
    for _ in range(2):
        assert main(["submit", "--host", server.url]) == 0
    named = [each["display_name"] for each in server.versions]
    assert len(named) == len(set(named)) == 2 and len(server.pipelines) == 1
    assert main(["submit", "--host", server.url, "--registry", "ghcr.io/you"]) == 0
    assert len(server.versions) == 3 and len(server.experiments) == 1 and len(server.runs) == 3


def test_follows_the_run_to_its_end(server, capsys):
    server.states = ["PENDING", "RUNNING", "RUNNING", "SUCCEEDED"]
    assert main(["submit", "--host", server.url, "--wait"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" ")[2] for line in lines if " query: " in line] == ["query: running", "query: succeeded"]
    assert not any("driver" in line for line in lines)


@pytest.mark.parametrize("state", ["FAILED", "CANCELED"])
def test_a_run_that_fails_is_an_exit_status(server, capsys, state):
    server.states = ["RUNNING", state]
    assert main(["submit", "--host", server.url, "--wait"]) == 1
    printed = capsys.readouterr().out
    assert f"run {state.lower()}: {server.url}" in printed
    assert ("(exit code 1)" in printed) == (state == "FAILED")


def test_parameters_that_the_form_would_refuse_are_not_offered_as_a_list(server):
    assert main(["submit", "--host", server.url, "model=simple_cnn,mobilenet_v2", "image_size=128"]) == 0
    spec, _ = yaml.safe_load_all(server.versions[-1]["package"])
    assert "literals" not in spec["root"]["inputDefinitions"]["parameters"]["model"]


def test_nobody_there_is_one_clear_line(capsys):
    assert main(["submit", "--host", "http://127.0.0.1:9"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no run at http://127.0.0.1:9: ") and error.count("\n") == 1


def test_a_server_that_asks_for_a_login(server, capsys):
    server.refuse = 401
    assert main(["submit", "--host", server.url]) == 2
    assert "log in, or give --token" in capsys.readouterr().err


def test_no_host(monkeypatch, capsys):
    monkeypatch.setattr(submit.os, "environ", {})
    assert main(["submit", "--host", ""]) == 2
    assert "give --host URL" in capsys.readouterr().err
