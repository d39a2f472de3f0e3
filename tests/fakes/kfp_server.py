"""A server that speaks as much of KFP's REST API (v2beta1) as `submit` uses, and remembers what it was sent."""

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from requests_toolbelt.multipart import decoder

from tests.fakes.argo_run import ArgoRun, sample_run

API = "/apis/v2beta1"


class KfpServer(ThreadingHTTPServer):
    """Pipelines, versions, experiments and runs in memory; a run goes through `states`, one per request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.pipelines: dict[str, dict] = {}
        self.versions: list[dict] = []
        self.experiments: list[dict] = []
        self.runs: list[dict] = []
        self.states: list = ["SUCCEEDED"]
        self.snapshot: Snapshot | None = None
        self.logs: dict[str, str] = {}  # by pod
        # What gc sees and deletes: state and Workflow of each run by its id, and the recurring runs.
        self.listed: dict[str, tuple[str, str]] = {}
        self.deleted: list[str] = []
        self.recurring: list[dict] = []
        self.refuse = 0
        self.viewers = 200
        self.health: dict = {"commit_sha": "unknown", "tag_name": "2.17.0", "multi_user": False}
        self.v1beta1 = True

    def __enter__(self) -> "KfpServer":
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.shutdown()
        self.server_close()

    def upload(self, query: dict, package: str) -> dict:
        """A new pipeline, with its content as the first version."""
        identity = f"p{len(self.pipelines)}"
        self.pipelines[identity] = {"pipeline_id": identity, "display_name": query["name"], **_kept(query)}
        self.pipelines[identity]["namespace"] = query.get("namespace", "")
        self.add_version({"name": query["name"], "pipelineid": identity}, package)
        return self.pipelines[identity]

    def add_version(self, query: dict, package: str) -> dict:
        version = {"pipeline_id": query["pipelineid"], "display_name": query["name"], **_kept(query)}
        version |= {"pipeline_version_id": f"v{len(self.versions)}"}
        self.versions.append(version | {"package": package})
        return version

    def create_run(self, run: dict) -> dict:
        self.runs.append({**run, "run_id": f"r{len(self.runs)}", "state": "PENDING"})
        return self.runs[-1]

    def get_run(self) -> dict:
        """v2beta1: the next of `states`, with the tasks as KFP makes them of Argo's nodes."""
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        self.snapshot = state if isinstance(state, Snapshot) else _of_state(state)
        tasks = self.snapshot.run.tasks()
        return {**self.runs[-1], "state": self.snapshot.state, "run_details": {"task_details": tasks}}

    def get_run_v1(self) -> dict:
        """v1beta1: the same run, with the Workflow that the persistence agent reported last."""
        run = {"id": self.runs[-1]["run_id"], "name": self.runs[-1]["display_name"]}
        return {"run": run, "pipeline_runtime": {"workflow_manifest": self.snapshot.manifest}}


@dataclass
class Snapshot:
    """What a run looks like at one request."""

    state: str
    run: ArgoRun
    manifest: str


def snapshot(state: str, run: ArgoRun, **workflow) -> Snapshot:
    """`state` is KFP's; `workflow` are keywords of ArgoRun.manifest."""
    phase = {"SUCCEEDED": "Succeeded", "FAILED": "Failed", "CANCELED": "Failed"}.get(state, "Running")
    return Snapshot(state, run, run.manifest(workflow.pop("phase", phase), **workflow))


def _of_state(state: str) -> Snapshot:
    return snapshot(state, sample_run(state), terminated=state == "CANCELED")


def _kept(query: dict) -> dict:
    return {"description": query.get("description", "")}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = urlsplit(self.path).path.removeprefix(API)
        server = self.server
        if (name := path.rpartition("/")[2]) in server.listed:
            return self._answer({"pipeline_runtime": {"workflow_manifest": server.listed[name][1]}})
        if path.startswith("/apis/v1beta1/runs/") and server.v1beta1:
            return self._answer(server.get_run_v1())
        if server.refuse:
            return self._answer({"message": "no"}, server.refuse)
        if path == "/healthz":
            return self._answer(server.health)
        query = {key: each[0] for key, each in parse_qs(urlsplit(self.path).query).items()}
        if path == "/k8s/pod/logs":
            log = server.logs.get(query["podname"])
            gone = b"Could not get main container logs: Error: HTTP-Code: 404"
            return self._send(log.encode(), "text/plain") if log is not None else self._send(gone, "text/plain", 500)
        if path == "/apps/tensorboard":
            return self._answer({"proxyPath": "", "tfVersion": "", "image": ""}, server.viewers)
        if path == "/pipelines":
            found = [each for each in server.pipelines.values() if each["namespace"] == query.get("namespace", "")]
            return self._answer({"pipelines": found} if found else {})
        if path.endswith("/versions"):
            found = [{key: each[key] for key in each if key != "package"} for each in server.versions]
            return self._answer({"pipeline_versions": found})
        if path == "/experiments":
            return self._answer({"experiments": server.experiments} if server.experiments else {})
        if path == "/runs":  # a page per run
            names = sorted(server.listed)
            place = int(query.get("page_token", "0"))
            found = [{"run_id": name, "state": server.listed[name][0]} for name in names[place : place + 1]]
            more = {"next_page_token": str(place + 1)} if place + 1 < len(names) else {}
            return self._answer({"runs": found, **more})
        if path == "/recurringruns":
            return self._answer({"recurringRuns": server.recurring} if server.recurring else {})
        if path.startswith("/runs/"):
            return self._answer(server.get_run())
        return self._answer({"message": f"unknown {path}"}, 404)

    def do_DELETE(self) -> None:
        name = urlsplit(self.path).path.rpartition("/")[2]
        if name not in self.server.listed:
            return self._answer({"message": f"no run {name}"}, 404)
        del self.server.listed[name]
        self.server.deleted.append(name)
        self._answer({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        parts = urlsplit(self.path)
        path, query = parts.path.removeprefix(API), {key: each[0] for key, each in parse_qs(parts.query).items()}
        if path.startswith("/pipelines/upload"):
            (package,) = decoder.MultipartDecoder(body, self.headers["Content-Type"]).parts
            add = self.server.add_version if path.endswith("version") else self.server.upload
            return self._answer(add(query, package.text))
        content = json.loads(body)
        if path == "/experiments":
            self.server.experiments.append({**content, "experiment_id": f"e{len(self.server.experiments)}"})
            return self._answer(self.server.experiments[-1])
        return self._answer(self.server.create_run(content))

    def _answer(self, content: dict, status: int = 200) -> None:
        self._send(json.dumps(content).encode(), "application/json", status)

    def _send(self, data: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_) -> None:
        pass
