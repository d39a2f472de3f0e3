"""What MLflow is told: a server that checks what it is sent, and one that is away or refuses."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from components.shared import mlflow

KNOWN = {"run_id", "metrics", "params", "tags"}


class Tracking(ThreadingHTTPServer):
    """One run, and its artifacts."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.metrics: list[dict] = []
        self.params: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.files: dict[str, bytes] = {}
        self.root, self.refuse, self.requests = "mlflow-artifacts:/0/abc/artifacts", 0, 0
        self.headers: list[dict] = []


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert self.path == "/api/2.0/mlflow/runs/get?run_id=abc"
        self._answer({"run": {"info": {"run_id": "abc", "artifact_uri": self.server.root}}})

    def do_PUT(self) -> None:
        name = self.path.removeprefix("/api/2.0/mlflow-artifacts/artifacts/")
        self.server.files[name] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/api/2.0/mlflow/runs/log-batch" and set(body) == KNOWN and body["run_id"] == "abc"
        assert len(body["params"]) <= 100 and len(body["metrics"]) <= 1000
        self.server.metrics += body["metrics"]
        self.server.params |= {each["key"]: each["value"] for each in body["params"]}
        self.server.tags |= {each["key"]: each["value"] for each in body["tags"]}
        self._answer({})

    def _answer(self, content: dict) -> None:
        self.server.requests += 1
        self.server.headers.append(dict(self.headers))
        data = json.dumps(content if not self.server.refuse else {"error_code": "PERMISSION_DENIED"}).encode()
        self.send_response(self.server.refuse or 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def tracking(monkeypatch):
    server = Tracking()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    monkeypatch.setenv("MLFLOW_RUN_ID", "abc")
    yield server
    server.shutdown()
    server.server_close()


def test_numbers_epochs_parameters_and_files_go_to_the_run(tracking, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    monkeypatch.setenv("MLFLOW_WORKSPACE", "team")
    page = tmp_path / "curves.html"
    page.write_text("<p>curves</p>")
    run = mlflow.Run()
    epochs = [{"epoch": number, "loss": 1 / number} for number in range(1, 151)]
    run.log({"accuracy": 0.9}, epochs, {"epochs": 150, "note": "x" * 9000}, {"model_uri": "s3://b/m"})
    run.upload("reports", [str(page)])
    assert [each["step"] for each in tracking.metrics if each["key"] == "loss"] == list(range(1, 151))
    assert {"key": "accuracy", "step": 0}.items() <= tracking.metrics[0].items()
    assert tracking.params["epochs"] == "150" and len(tracking.params["note"]) == 6000
    assert tracking.tags == {"model_uri": "s3://b/m"}
    assert tracking.files == {"0/abc/artifacts/reports/curves.html": b"<p>curves</p>"}
    sent = tracking.headers[0]
    assert (sent["Authorization"], sent["X-Mlflow-Workspace"]) == ("Bearer secret", "team")


def test_without_both_variables_nothing_is_sent(tracking, monkeypatch):
    for name in ("MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI"):
        with monkeypatch.context() as patch:
            patch.delenv(name)
            run = mlflow.Run()
            run.log({"accuracy": 0.9})
            assert not run.is_on
    assert tracking.requests == 0


@pytest.mark.parametrize("fault", ["away", "refuses", "own store"])
def test_a_fault_costs_one_warning_and_nothing_more(tracking, monkeypatch, capsys, tmp_path, fault):
    if fault == "away":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    tracking.refuse = 403 if fault == "refuses" else 0
    tracking.root = "s3://theirs/0/abc" if fault == "own store" else tracking.root
    (tmp_path / "page").write_text("x")
    run = mlflow.Run()
    for _ in range(3):
        run.log({"accuracy": 0.9})
        run.upload("reports", [str(tmp_path / "page")])
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and told.startswith("warning: MLflow at http://") and not tracking.files
