"""A server that speaks as much of KFP's REST API (v2beta1) as `submit` uses, and remembers what it was sent."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from requests_toolbelt.multipart import decoder

API = "/apis/v2beta1"


class KfpServer(ThreadingHTTPServer):
    """Pipelines, versions, experiments and runs in memory; a run goes through `states`, one a request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.pipelines: dict[str, dict] = {}
        self.versions: list[dict] = []
        self.experiments: list[dict] = []
        self.runs: list[dict] = []
        self.states: list = ["SUCCEEDED"]
        self.shards = 3
        self.log = ""
        self.refuse = 0

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

    def failed_pods(self) -> list[str]:
        """The pods of the last attempts that failed."""
        nodes = argo_nodes("FAILED", self.shards)
        return [node["pod_name"] for node in nodes if node["display_name"] == "executor(1)"]

    def get_run(self) -> dict:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        nodes = argo_nodes("RUNNING" if state == "PENDING" else state, self.shards)
        return {**self.runs[-1], "state": state, "run_details": {"task_details": nodes}}


def argo_nodes(state: str, shards: int) -> list[dict]:
    """A run as KFP's server tells it: Argo's nodes, with `state` for the last shard's fetch and "succeeded" before it.

    Names repeat; a child is told by its node's id, whose last number is that of its pod's name; edges lead from a task
    to those that wait for it, so assemble hangs below the last steps of the loop.
    """
    nodes: list[dict] = []

    def node(name: str, state: str | None, children: list[int] = (), template: str = "") -> int:
        number = 1000 + len(nodes)
        own = f"museum-classifier-x-{template}-{number}" if template else f"museum-classifier-x-{number}"
        below = [{"pod_name": f"museum-classifier-x-{child}"} for child in children]
        nodes.append(
            {"task_id": f"t{number}", "pod_name": own, "display_name": name, "state": state, "child_tasks": below}
        )
        return number

    def step(name: str, state: str | None, after: list[int] = ()) -> int:
        """The number of the step's driver; `after` are the drivers that wait for the step."""
        attempts = [state, state if state == "FAILED" else None]
        pods = [node(f"executor({n})", each, template="system-container-impl") for n, each in enumerate(attempts)]
        executor = node("executor", state, pods)
        own = node(name, state, [executor, *after])
        return node(f"{name}-driver", state and "SUCCEEDED", [own], "system-container-driver")

    then = "SUCCEEDED" if state == "SUCCEEDED" else None
    assemble = step("assemble", then)
    iterations = []
    for index in range(shards):
        own, after = ("SUCCEEDED", "SUCCEEDED") if index < shards - 1 else (state, then)
        item = node("iteration-item", own, [step("fetch", own, [step("convert", after, [assemble])])])
        iterations.append(node(f"iteration-iterations({index}:{index})", own, [item]))
    loop = node("for-loop-1", state, [node("iteration-driver", "SUCCEEDED", iterations)])
    node("root", state, [step("query", "SUCCEEDED", [loop])])
    return [each for each in nodes if each["state"]]


def _kept(query: dict) -> dict:
    return {"description": query.get("description", "")}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = urlsplit(self.path).path.removeprefix(API)
        server = self.server
        if server.refuse:
            return self._answer({"message": "no"}, server.refuse)
        if path == "/healthz":
            return self._answer({"multi_user": False})
        query = {key: each[0] for key, each in parse_qs(urlsplit(self.path).query).items()}
        if path == "/k8s/pod/logs":
            return self._send(server.log.encode() if query["podname"] in server.failed_pods() else b"", "text/plain")
        if path == "/pipelines":
            found = [each for each in server.pipelines.values() if each["namespace"] == query.get("namespace", "")]
            return self._answer({"pipelines": found} if found else {})
        if path.endswith("/versions"):
            found = [{key: each[key] for key in each if key != "package"} for each in server.versions]
            return self._answer({"pipeline_versions": found})
        if path == "/experiments":
            return self._answer({"experiments": server.experiments} if server.experiments else {})
        if path.startswith("/runs/"):
            return self._answer(server.get_run())
        return self._answer({"message": f"unknown {path}"}, 404)

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
