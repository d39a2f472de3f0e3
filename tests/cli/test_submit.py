"""`pipeline.py submit` with the real KFP client against a server that answers as KFP's does."""

import pytest
import yaml

from cli import follow, submit
from cli.main import main
from tests.cli.kfp_server import KfpServer


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))  # the client keeps settings there
    monkeypatch.setattr(follow, "POLL_SECONDS", 0.01)
    with KfpServer() as server:
        yield server


def test_uploads_a_version_and_starts_a_run(server, capsys):
    assert main(["submit", "--host", server.url, "--name", "first", "--root", "s3://bucket/x", "epochs=7"]) == 0
    (run,) = server.runs
    assert run["display_name"] == "first" and run["experiment_id"] == "e0"
    assert run["runtime_config"]["parameters"]["train_epochs"] == 7
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


def printed_steps(text: str) -> list[str]:
    """What `--wait` printed, without the times."""
    return [line.partition(" ")[2].strip() for line in text.splitlines() if ": " in line and "://" not in line]


def test_follows_the_run_to_its_end(server, capsys):
    server.states = ["PENDING", "RUNNING", "RUNNING", "SUCCEEDED"]
    assert main(["submit", "--host", server.url, "--wait"]) == 0
    lines = printed_steps(capsys.readouterr().out)
    # Names repeat on the server, states of one do not hide those of another, and only steps of the graph are shown.
    for index in (1, 2, 3):
        assert f"fetch {index}/3: succeeded" in lines and f"convert {index}/3: succeeded" in lines
    assert "fetch 3/3: running" in lines and "fetch 1/3: running" not in lines
    assert "query: succeeded" in lines and "assemble: succeeded" in lines
    assert len(lines) == len(set(lines))
    assert not any(word in line for line in lines for word in ("driver", "executor", "iteration", "root", "loop"))


@pytest.mark.parametrize("state", ["FAILED", "CANCELED"])
def test_a_run_that_fails_is_an_exit_status(server, capsys, state):
    server.states = ["RUNNING", state]
    server.log = (
        "time=... launcher\nfetched 3 of 9\nerror: images.example.org answers 403; ask the museum\nexit status 1\n"
    )
    assert main(["submit", "--host", server.url, "--wait"]) == 1
    printed = capsys.readouterr().out
    assert f"run {state.lower()}: {server.url}" in printed
    assert ("         error: images.example.org answers 403; ask the museum" in printed) == (state == "FAILED")


def test_a_log_that_cannot_be_read_names_the_pod(server, capsys):
    server.states = ["FAILED"]
    assert main(["submit", "--host", server.url, "--wait"]) == 1
    (pod,) = server.failed_pods()
    assert f"kubectl logs {pod} -c main says why" in capsys.readouterr().out


def test_no_cache_turns_every_tasks_cache_off(server):
    assert main(["submit", "--host", server.url, "--no-cache"]) == 0
    spec, _ = yaml.safe_load_all(server.versions[-1]["package"])
    parts = [spec["root"], *spec["components"].values()]
    tasks = [task for part in parts for task in part.get("dag", {}).get("tasks", {}).values()]
    assert len(tasks) >= 10
    assert not any(task["cachingOptions"].get("enableCache") for task in tasks)


def test_a_users_own_namespace_has_its_own_pipeline(server):
    for _ in range(2):
        assert main(["submit", "--host", server.url]) == 0
        assert main(["submit", "--host", server.url, "--namespace", "user"]) == 0
    assert sorted(each["namespace"] for each in server.pipelines.values()) == ["", "user"]


def test_too_many_shards_are_refused_before_anything_is_uploaded(server, capsys):
    assert main(["submit", "--host", server.url, "shards=101"]) == 2
    assert "shards=101 is too many" in capsys.readouterr().err and not server.versions


def test_images_without_a_registry_are_warned_of(server, capsys):
    assert main(["submit", "--host", server.url]) == 0
    assert capsys.readouterr().err.startswith("warning: images have no registry (museum-classifier-data:0.1.0)")
    assert main(["submit", "--host", server.url, "--registry", "ghcr.io/you"]) == 0
    assert "warning" not in capsys.readouterr().err


def test_parameters_that_the_form_would_refuse_are_not_offered_as_a_list(server):
    assert main(["submit", "--host", server.url, "model=simple_cnn,mobilenet_v2", "image_size=128"]) == 0
    spec, _ = yaml.safe_load_all(server.versions[-1]["package"])
    assert "literals" not in spec["root"]["inputDefinitions"]["parameters"]["train_model"]


def test_nobody_there_is_one_clear_line(capsys):
    assert main(["submit", "--host", "http://127.0.0.1:9"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no run at http://127.0.0.1:9: ") and error.count("\n") == 1


def test_a_server_that_asks_for_a_login(server, capsys):
    server.refuse = 401
    assert main(["submit", "--host", server.url]) == 2
    assert "log in, or give --token" in capsys.readouterr().err


def test_a_host_that_is_no_url(capsys):
    assert main(["submit", "--host", "kubeflow:8080"]) == 2
    assert capsys.readouterr().err.strip() == (
        "error: --host kubeflow:8080 is no URL: give one such as http://localhost:8080"
    )


def test_no_host(monkeypatch, capsys):
    monkeypatch.setattr(submit.os, "environ", {})
    assert main(["submit", "--host", ""]) == 2
    assert "give --host URL" in capsys.readouterr().err
