"""What a step tells the MLflow run that KFP's plugin made for it: numbers, parameters, files.

KFP's plugin puts MLFLOW_RUN_ID and MLFLOW_TRACKING_URI into a step's environment; without both this module does
nothing. It speaks MLflow's REST API itself (https://mlflow.org/docs/latest/rest-api.html): mlflow-skinny would bring 19
packages into the image, a web framework and Git among them, for three kinds of requests. A server that is away, or
refuses, costs one warning and nothing else.
"""

import base64
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

from components.shared.display import one_line

SECONDS = 10
# MLflow's limits: parameters of one request (and fewer metrics than it takes), characters of one.
_PARAMETERS, _LENGTH = 100, 6000
_API, _ARTIFACTS = "api/2.0/mlflow", "api/2.0/mlflow-artifacts/artifacts"
_PROXIED = "mlflow-artifacts:"


class Run:
    """The MLflow run of this step; `is_on` is False where there is none, or its server has failed once."""

    def __init__(self) -> None:
        self._id, self._uri = os.environ.get("MLFLOW_RUN_ID", ""), os.environ.get("MLFLOW_TRACKING_URI", "").rstrip("/")
        self.is_on = bool(self._id and self._uri.startswith(("http://", "https://")))

    def log(
        self,
        metrics: Mapping[str, float] | None = None,
        history: Iterable[Mapping[str, float]] = (),
        parameters: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Numbers of the whole step, and those of each epoch (with its number as `epoch`), parameters and tags."""
        now = int(time.time() * 1000)
        rows = [(name, value, 0) for name, value in (metrics or {}).items()]
        for entry in history:
            rows += [(name, value, int(entry.get("epoch", 0))) for name, value in entry.items() if name != "epoch"]
        numbers = [
            {"key": name, "value": float(value), "timestamp": now, "step": step}
            for name, value, step in rows
            if isinstance(value, int | float)
        ]
        pairs = [{"key": name, "value": str(value)[:_LENGTH]} for name, value in (parameters or {}).items()]
        notes = [{"key": name, "value": text} for name, text in (tags or {}).items()]
        for start in range(0, max(len(numbers), len(pairs), len(notes)), _PARAMETERS):
            some = slice(start, start + _PARAMETERS)
            body = {"run_id": self._id, "metrics": numbers[some], "params": pairs[some], "tags": notes[some]}
            self._send("POST", f"{_API}/runs/log-batch", json.dumps(body).encode())

    def upload(self, folder: str, paths: Iterable[str]) -> None:
        """Copies local files into `folder` of the run's artifacts, where the server takes them (--serve-artifacts)."""
        run = self._send("GET", f"{_API}/runs/get?run_id={quote(self._id)}")
        root = json.loads(run)["run"]["info"]["artifact_uri"] if run else ""
        if root and not root.startswith(_PROXIED):
            return self._warn(f"its artifacts are at {root}, which is not the server's to write")
        for path in paths if root else ():
            name = f"{root.removeprefix(_PROXIED).strip('/')}/{folder}/{os.path.basename(path)}"
            self._send("PUT", f"{_ARTIFACTS}/{quote(name)}", Path(path).read_bytes(), "application/octet-stream")

    def _send(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        """The answer; empty where there is no run, or no server any more."""
        if not self.is_on:
            return b""
        headers = {"Content-Type": kind, **_credentials()}
        request = urllib.request.Request(f"{self._uri}/{path}", body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            self._warn(f"{error.code} {error.read(300).decode(errors='replace')}")
        except (OSError, ValueError) as error:
            self._warn(str(error))
        return b""

    def _warn(self, why: str) -> None:
        self.is_on = False
        print(f"warning: MLflow at {self._uri} is told nothing more: {one_line(why)}", file=sys.stderr, flush=True)


def _credentials() -> dict[str, str]:
    """MLflow's own variables."""
    workspace = os.environ.get("MLFLOW_WORKSPACE")
    return _authorization() | ({"X-MLFLOW-WORKSPACE": workspace} if workspace else {})


def _authorization() -> dict[str, str]:
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    if user := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        pair = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}
