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
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        task = {"display_name": "query", "state": state if state != "PENDING" else "RUNNING"}
        if state == "FAILED":
            task["error"] = {"message": "exit code 1"}
        driver = {"display_name": "query-driver", "state": "SUCCEEDED"}
        return {**self.runs[-1], "state": state, "run_details": {"task_details": [driver, task]}}


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
        if path == "/pipelines":
            return self._answer({"pipelines": list(server.pipelines.values())} if server.pipelines else {})
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
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_) -> None:
        pass
