"""The server over HTTP: every way to send a picture, every refusal, what is counted, and what is left behind."""

import base64
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
import requests

from components.artifacts import classifier
from components.serve import local, smoke
from components.server.predict import predict_files
from tests.helpers import colour_dataset, processes
from tests.helpers.colour_model import picture

RED = picture("red", 640, 480)


def labels(response: requests.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [prediction["label"] for prediction in response.json()["predictions"]]


def test_a_file_raw_bytes_and_base64(server):
    url = f"{server}/classify"
    assert labels(requests.post(url, files={"file": ("a.jpg", RED)}))[0] == "red"
    assert labels(requests.post(url, data=RED, headers={"Content-Type": "image/jpeg"}))[0] == "red"
    # What `curl --data-binary` sends, and a type that is a lie: the content decides.
    for kind in ("application/x-www-form-urlencoded", "text/html", ""):
        assert labels(requests.post(url, data=RED, headers={"Content-Type": kind}))[0] == "red"
    assert labels(requests.post(url, json={"b64": base64.b64encode(RED).decode()}))[0] == "red"
    chunks = (RED[place : place + 999] for place in range(0, len(RED), 999))
    assert labels(requests.post(url, data=chunks))[0] == "red"


def test_top(server):
    assert len(labels(requests.post(f"{server}/classify?top=2", data=RED))) == 2
    assert len(labels(requests.post(f"{server}/classify?top=500", data=RED))) == 3
    for wrong in ("0", "-1", "x", "1.5", "9" * 40):
        response = requests.post(f"{server}/classify", params={"top": wrong}, data=RED)
        assert response.status_code == 400 and "whole number" in response.json()["error"]


def test_the_same_answer_by_command_line_and_server(server, classifier_dir, tmp_path):
    (tmp_path / "red.jpg").write_bytes(RED)
    answer = requests.post(f"{server}/classify", data=RED).json()
    [found] = predict_files(classifier.load(classifier_dir), [str(tmp_path / "red.jpg")])
    assert found.ranking == [(item["label"], item["probability"]) for item in answer["predictions"]]
    assert classifier.digest(classifier_dir).startswith(answer["version"])


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        ({"data": b""}, 400, "no_picture"),
        ({"data": b"text"}, 415, "not_an_image"),
        ({"data": RED[: len(RED) // 2]}, 422, "truncated"),
        ({"json": {}}, 400, "no_picture"),
        ({"json": {"url": 1}}, 400, "no_picture"),
        ({"json": {"b64": "?"}}, 400, "bad_base64"),
        ({"data": b"{", "headers": {"Content-Type": "application/json"}}, 400, "bad_json"),
        ({"data": b"[" * 100_000, "headers": {"Content-Type": "application/json"}}, 400, "bad_json"),
        ({"files": [("a", RED), ("b", RED)]}, 400, "no_picture"),
        ({"data": {"field": "value"}, "files": {}}, 415, "not_an_image"),
        ({"data": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "no_picture"),
        ({"data": bytes(11_000_000)}, 413, "request_entity_too_large"),
    ],
)
def test_refusals(server, request_, status, reason):
    response = requests.post(f"{server}/classify", **request_)
    assert (response.status_code, response.json()["reason"]) == (status, reason), response.text
    assert set(response.json()) == {"error", "reason"}


def test_unknown_paths_and_methods_are_json_too(server):
    assert requests.get(f"{server}/nothing").json()["reason"] == "not_found"
    response = requests.get(f"{server}/classify")
    assert response.status_code == 405 and response.json()["reason"] == "method_not_allowed"
    assert "POST" in response.headers["Allow"]


def test_nothing_that_was_uploaded_is_written(classifier_dir, tmp_path, monkeypatch):
    """The course's checked upload: neither under the name that came with it, nor under any other."""
    current, temporary = tmp_path / "a" / "current", tmp_path / "a" / "temporary"
    for folder in (current, temporary):
        folder.mkdir(parents=True)
    monkeypatch.chdir(current)
    monkeypatch.setenv("TMPDIR", str(temporary))
    # Beyond what form parsers keep in memory.
    large = picture("green", 1500, 1500, quality=100)
    assert len(large) > 2_000_000
    with local.running_server(classifier_dir, "--workers", "1") as url:
        # No file may become as large, also one without a name: that would be an error, and the answer 500.
        resource.prlimit(processes.workers(url)[0].pid, resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
        inside, before = _open_files(url), _changes(tmp_path)
        for name in ("../../evil.jpg", "/tmp/evil.jpg", "evil\x00.php", "con.jpg", "a" * 500, "<script>.jpg"):
            response = requests.post(f"{url}/classify", files={"file": (name, large, "text/html")})
            assert labels(response)[0] == "green" and "evil" not in response.text
        assert _open_files(url) == inside
        assert _changes(tmp_path) == before
    assert not [path for path in map(Path, ("/tmp/evil.jpg", "/evil.jpg", "../../evil.jpg")) if path.exists()]


def _changes(directory: Path) -> dict[Path, int]:
    """When each folder last changed: a file that came and went again has left its mark."""
    return {path: path.stat().st_mtime_ns for path in (directory, *directory.rglob("*"))}


def _open_files(url: str) -> set[str]:
    """Regular files that the server listening at `url` holds open, deleted ones included."""
    port = int(url.rpartition(":")[2])
    listening = {connection.pid for connection in psutil.net_connections("tcp") if connection.laddr.port == port}
    found = set()
    for pid in filter(None, listening):
        for descriptor in os.scandir(f"/proc/{pid}/fd"):
            try:
                found.add(os.readlink(descriptor.path))
            except FileNotFoundError:
                continue  # closed meanwhile
    return {path for path in found if path.startswith("/") and not path.startswith("/dev/null")}


def test_metrics_and_histogram_cover_all_workers(classifier_dir):
    with local.running_server(classifier_dir, "--name", "colours", "--workers", "2") as url:
        for colour, number in (("red", 7), ("green", 3)):
            for seed in range(number):
                # A connection each, so that both workers get some.
                assert labels(requests.post(f"{url}/classify", data=picture(colour, seed=seed)))[0] == colour
        requests.post(f"{url}/classify", data=b"text")
        histogram = requests.get(f"{url}/v1/models/colours/histogram").json()
        metrics = requests.get(f"{url}/metrics").text
    assert histogram["predictions"] == {"red": 7, "green": 3, "blue": 0}
    assert histogram["window"] == sum(histogram["confidence"]) == 10 and len(histogram["confidence"]) == 20
    assert histogram["confidence"][-1] == 10
    for line in (
        'classifier_predictions_total{label="red"} 7.0',
        'classifier_requests_total{route="/classify",status="200"} 10.0',
        'classifier_requests_total{route="/classify",status="415"} 1.0',
        'classifier_request_seconds_count{route="/classify"} 11.0',
        "classifier_confidence_count 10.0",
    ):
        assert line in metrics.splitlines()


def test_the_smoke_test_is_no_traffic(classifier_dir, tmp_path):
    data = colour_dataset.build(tmp_path / "data")
    questions = smoke.choose_questions(data, colour_dataset.evaluate(data, classifier_dir, tmp_path / "predictions"))
    with local.running_server(classifier_dir, "--name", "colours", "--workers", "1") as url:
        smoke.smoke_test(url, questions, classifier.digest(classifier_dir))
        metrics = requests.get(f"{url}/metrics").text.splitlines()
        assert requests.get(f"{url}/v1/models/colours/histogram").json()["window"] == 0
    assert f'classifier_requests_total{{route="/classify",status="200"}} {len(questions)}.0' in metrics
    assert not [line for line in metrics if line.startswith("classifier_predictions_total{")]


def test_the_command_of_the_pipeline_passes_the_options_on(classifier_dir):
    port = local.free_port()
    command = [sys.executable, "pipeline.py", "serve", "--model", classifier_dir, "--port", str(port), "--no-urls"]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen([*command, "--name", "colours", "--workers", "1"], stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            local.wait_until_ready(url, server, log)
            assert requests.get(f"{url}/v1/models").json() == {"models": ["colours"]}
            refused = requests.post(f"{url}/classify", json={"url": "https://example.org/a.jpg"})
            assert (refused.status_code, refused.json()["reason"]) == (403, "urls_off")
            assert len(processes.workers(url)) == 1
        finally:
            server.terminate()
            assert server.wait(30) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "/nowhere"], "error: there is no folder /nowhere"),
        (["--model", "MODEL", "--sha256", "0" * 64], "not 000000000000"),
        (["--model", "MODEL", "--engine", "savedmodel", "--sha256", "0" * 64], "not 000000000000"),
    ],
)
def test_a_wrong_model_is_one_line(classifier_dir, arguments, message):
    command = [sys.executable, "-m", "components.server", "--port", str(local.free_port())]
    command += [argument.replace("MODEL", classifier_dir) for argument in arguments]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 1 and message in ran.stderr and "Traceback" not in ran.stderr


def test_an_address_that_cannot_be_had_is_one_line(classifier_dir):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        reasons = {"127.0.0.1": "another program listens there", "192.0.2.1": "--host", "a.invalid": "--host"}
        for host, reason in reasons.items():
            command = [sys.executable, "-m", "components.server", "--model", classifier_dir, "--host", host]
            ran = subprocess.run([*command, "--port", str(port)], capture_output=True, text=True)
            [line] = ran.stderr.strip().splitlines()
            assert ran.returncode == 1 and reason in line
            assert line.startswith(f"error: cannot listen at {host}:{port}: ")


@pytest.mark.slow
def test_the_saved_model_engine(classifier_dir):
    with local.running_server(classifier_dir, "--engine", "savedmodel", "--workers", "1") as url:
        assert labels(requests.post(f"{url}/classify", data=RED))[0] == "red"
        assert requests.get(f"{url}/v2/models/museum-classifier").json()["platform"] == "savedmodel"


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="making the disk read-only takes root")
def test_as_a_nobody_on_a_read_only_disk(classifier_dir, tmp_path):
    """As in the pod: every file system read-only but the temporary folder, and a user without a name or a home."""
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    if subprocess.run([*nobody, sys.executable, "-c", f"open({__file__!r})"], capture_output=True).returncode:
        pytest.skip("this checkout lies below a folder that only its owner may enter")
    port, model = local.free_port(), shutil.copytree(classifier_dir, tmp_path / "model")
    subprocess.run(["chmod", "-R", "a+rX", str(model)], check=True)
    serve = f"{sys.executable} -m components.server --model /mnt --host 127.0.0.1 --port {port} --workers 1"
    script = f"""
        set -e
        mount --bind {model} /mnt
        mount -t tmpfs -o mode=1777 tmpfs /media
        mount -o remount,bind,ro /
        if touch /written 2> /dev/null; then exit 9; fi
        exec setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs --inh-caps=-all {serve}
    """
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent"}
    environment["TMPDIR"] = "/media"  # not /tmp itself: this very checkout may lie below it
    log = tempfile.TemporaryFile()
    server = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], env=environment, stdout=log, stderr=log)
    try:
        local.wait_until_ready(f"http://127.0.0.1:{port}", server, log)
        assert labels(requests.post(f"http://127.0.0.1:{port}/classify", files={"file": ("a.jpg", RED)}))[0] == "red"
        assert psutil.Process(server.pid).uids().effective == 65534
    finally:
        server.terminate()
        assert server.wait(30) == 0


def test_the_page_says_what_the_model_is(classifier_dir):
    """Until an evaluation is told of, the accuracy is that of the validation split, and is called so."""
    with local.running_server(classifier_dir, "--workers", "1") as url:
        text = requests.get(url).text
        for fact in ("<dt>classes</dt><dd>3</dd>", "<dd>2026-01-02</dd>", "<dd>480</dd>", "Architecture mean_colour"):
            assert fact in text, fact
        assert "<dt>accuracy, validation pictures</dt><dd>93.8\u00a0%</dd>" in text
    with local.running_server(classifier_dir, "--workers", "1", "--test-accuracy", "0.876") as url:
        text = requests.get(url).text
        assert "<dt>accuracy, test pictures</dt><dd>87.6\u00a0%</dd>" in text and "validation" not in text


def test_labels_are_text_on_the_page(classifier_dir, tmp_path):
    folder = Path(shutil.copytree(classifier_dir, tmp_path / "model"))
    names = ["<script>alert(1)</script>", "Äpfel & Birnen", "x" * 200]
    (folder / "labels.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    card = json.loads((folder / "model_card.json").read_text()) | {"labels": names, "metrics": {"test_accuracy": 0.5}}
    (folder / "model_card.json").write_text(json.dumps(card))
    with local.running_server(str(folder), "--workers", "1") as url:
        response = requests.get(url)
        assert labels(requests.post(f"{url}/classify", data=RED))[0] == names[0]
    assert "<script>alert" not in response.text and "&lt;script&gt;" in response.text
    assert "Äpfel &amp; Birnen" in response.text and "50.0\u00a0%" in response.text
    assert "script-src" not in response.headers["Content-Security-Policy"]
    assert response.headers["Content-Security-Policy"].startswith("default-src 'self'")
