"""`pipeline.py submit` with the real KFP client against a server that answers as KFP's does."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from cli import follow, kfp_api, submit
from cli.main import main
from components.container_images import TAG
from tests.fakes.kfp_server import KfpServer


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


def test_wait_follows_the_run(server, capsys):
    server.states = ["RUNNING", "FAILED"]
    assert main(["submit", "--host", server.url, "--wait"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == f"run failed at fetch 3/3: {server.url}/#/runs/details/r0" and "-c main says why" in lines[-1]


def test_a_server_for_several_users_wants_a_namespace(server, capsys):
    server.health["multi_user"] = True
    assert main(["submit", "--host", server.url]) == 2
    assert capsys.readouterr().err == f"error: {server.url} serves several users: give --namespace YOURS\n"


@pytest.mark.parametrize("key", ["tag_name", "apiServerTagName"])  # the API server's word, and the UI's
def test_a_server_that_is_too_old(server, capsys, key):
    server.health = {key: "2.15.0"}
    assert main(["submit", "--host", server.url]) == 2
    error = capsys.readouterr().err
    assert error == f"error: {server.url} is KFP 2.15, which refuses fields of this pipeline: upgrade it to 2.17\n"
    assert not server.versions


def test_an_older_server_is_warned_of(server, capsys):
    server.health["tag_name"] = "2.16.1"
    assert main(["submit", "--host", server.url, "--registry", "ghcr.io/you"]) == 0
    assert capsys.readouterr().err.startswith(f"warning: {server.url} is KFP 2.16; this was tried with 2.17")
    _, platform = yaml.safe_load_all(server.versions[-1]["package"])
    assert "pipelineConfig" not in platform["platforms"]["kubernetes"]  # it refuses fields that it does not know


def test_an_api_server_that_is_away_behind_its_ui(server, capsys):
    server.health = {"apiServerReady": False, "frontendTagName": "2.17.0"}
    assert main(["submit", "--host", server.url]) == 2
    assert "its API server (ml-pipeline) does not answer" in capsys.readouterr().err


def test_a_page_to_log_in_at(capsys):
    """As of an OAuth proxy: every request is redirected to a page, which answers 200."""

    class Login(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path != "/dex/auth":
                self.send_response(302)
                self.send_header("Location", "/dex/auth")
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>Log in</html>")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Login) as front:
        threading.Thread(target=front.serve_forever, args=(0.05,), daemon=True).start()
        assert main(["submit", "--host", f"http://127.0.0.1:{front.server_port}"]) == 2
        front.shutdown()
    error = capsys.readouterr().err
    assert "wants a login: give --token and --namespace" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "status, body, told",
    [
        (400, '{"error":"Failed to load: unknown field \\"literals\\""}', "does not know the field literals"),
        (400, '{"error":"Invalid input: Namespace cannot be empty in multi-user mode"}', "give --namespace YOURS"),
        (403, '{"error":"not authorized"}', "log in, or give --token and --namespace"),
        (500, '{"error":"the database is away"}', "the database is away"),
    ],
)
def test_what_a_server_refuses_is_one_line(status, body, told):
    class Refused(Exception):
        pass

    error = Refused()
    error.status, error.body = status, body
    line = str(kfp_api.explained("http://kfp", error))
    assert told in line and "\n" not in line


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
    assert capsys.readouterr().err.startswith(f"warning: images have no registry (museum-classifier-data:{TAG})")
    assert main(["submit", "--host", server.url, "--registry", "ghcr.io/you"]) == 0
    assert "warning" not in capsys.readouterr().err


def test_parameters_that_the_form_would_refuse_are_not_offered_as_a_list(server):
    assert main(["submit", "--host", server.url, "model=simple_cnn,mobilenet_v2", "image_size=128"]) == 0
    spec, _ = yaml.safe_load_all(server.versions[-1]["package"])
    assert "literals" not in spec["root"]["inputDefinitions"]["parameters"]["train_model"]


def test_nobody_there_is_one_clear_line(capsys):
    assert main(["submit", "--host", "http://127.0.0.1:9"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: http://127.0.0.1:9 does not answer as it should: ") and error.count("\n") == 1


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
