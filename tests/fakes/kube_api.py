"""A Kubernetes API server for tests: real HTTP on loopback, objects checked against the real OpenAPI schemas.

    with KubeApi() as kube:
        monkeypatch.setenv("KUBECONFIG", kube.kubeconfig(tmp_path / "kubeconfig"))
        kube.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store"}, "data": {}})
        kube.controllers.append(...)   # called as controller(event, object) after every change

It stores objects of any kind; knows server-side apply, merge patch, create, replace, list with selectors, watch, delete
with garbage collection by owner, status subresources and logs. It refuses what it is told to (`refuse`).
"""

import json
import re
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.fakes.kube_objects import Object, Refusal
from tests.fakes.kube_store import KubeStore

_PATH = re.compile(
    r"^/(?:api|apis)/(?P<version>v1|[^/]+/[^/]+)/namespaces/(?P<namespace>[^/]+)/(?P<plural>[a-z]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<sub>status|log|scale))?$"
)


class KubeApi(KubeStore):
    """The server; `requests` lists (method, path) as they came."""

    def __init__(self, namespace: str = "kubeflow") -> None:
        super().__init__(namespace)
        self.requests: list[tuple[str, str]] = []
        self.logs: Callable[[Object, dict[str, str]], Iterator[bytes]] | None = None
        # What stands at paths outside of the namespace, and which rights no account has: (verb, resource).
        self.elsewhere: dict[str, Any] = {}
        # What is behind the API server's proxy: URLs of servers, by the path that leads to them.
        self.behind: dict[str, str] = {}
        self.denied: set[tuple[str, str]] = set()
        self._refusals: list[tuple[str, str, Refusal, list[int]]] = []
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"kube": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "KubeApi":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._server.shutdown()
        self._server.server_close()

    def kubeconfig(self, path: Path) -> str:
        """Writes a kubeconfig for this server to `path` and returns it."""
        context = {"cluster": "test", "user": "test", "namespace": self.namespace}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": context}],
            "clusters": [{"name": "test", "cluster": {"server": self.url}}],
            "users": [{"name": "test", "user": {"token": "test"}}],
        }
        path.write_text(yaml.safe_dump(config))
        return str(path)

    def refuse(self, method: str, plural: str, status: int, message: str = "refused by the test", times: int = 1 << 30):
        """Answers the next `times` requests of `method` (`*` for all) on `plural` with `status`."""
        reason = {403: "Forbidden", 429: "TooManyRequests", 503: "ServiceUnavailable"}.get(status, "InternalError")
        self._refusals.append((method, plural, Refusal(status, reason, message), [times]))

    def refused_all(self) -> bool:
        """Whether all that `refuse` announced has been refused."""
        return all(times[0] == 0 for *_, times in self._refusals)

    def check(self, method: str, path: str) -> re.Match:
        """The parts of a request's `path`. Raises Refusal if there is nothing like it, or it is to be refused."""
        with self.lock:
            self.requests.append((method, path))
            match = _PATH.match(path)
            if not match:
                raise Refusal(404, "NotFound", f"the server could not find the requested resource {path}")
            for verb, plural, refusal, times in self._refusals:
                if verb in ("*", method) and plural in ("*", match["plural"]) and times[0] > 0:
                    times[0] -= 1
                    raise refusal
            return match


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that was killed says no good-bye
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    kube: KubeApi

    def _answer(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        try:
            if url.path in self.kube.elsewhere:
                return self._send_elsewhere(self.kube.elsewhere[url.path])
            if prefix := next(filter(url.path.startswith, self.kube.behind), ""):
                return self._send_elsewhere(self._forward(self.kube.behind[prefix] + self.path[len(prefix) :]))
            match = self.kube.check(self.command, url.path)
            status, answer = self._result(match, query, body)
        except Refusal as refusal:
            status = refusal.status
            answer = {"kind": "Status", "status": "Failure", "message": refusal.message, "reason": refusal.reason}
        if isinstance(answer, dict):
            self._send(status, json.dumps(answer).encode())
        else:
            self._stream(answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def _result(self, match: re.Match, query: dict[str, str], body: Object | None) -> tuple[int, Any]:
        kube, media = self.kube, self.headers.get("Content-Type", "")
        if match["sub"] == "log":
            pod = kube.read(match)
            if pod.get("status", {}).get("phase") == "Pending":
                raise Refusal(400, "BadRequest", f'container in pod "{match["name"]}" is waiting to start')
            return 200, kube.logs(pod, query)
        if self.command == "GET" and match["name"]:
            return 200, kube.read(match)
        if self.command == "GET" and query.get("watch") in ("true", "True", "1"):
            return 200, kube.watch(match, query)
        if self.command == "GET":
            return 200, kube.find(match, query)
        if match["plural"] == "localsubjectaccessreviews":
            asked = body["spec"]["resourceAttributes"]
            resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
            return 201, {**body, "status": {"allowed": (asked["verb"], resource) not in kube.denied}}
        if self.command == "POST":
            return 201, kube.create(match, body)
        if self.command == "PUT":
            return 200, kube.replace(match, body)
        if self.command == "DELETE":
            return 200, kube.delete(match)
        if "apply-patch" in media:
            if "fieldManager" not in query:
                raise Refusal(400, "BadRequest", "fieldManager is required for apply patch")
            new, stored = kube.apply(match, body, query["fieldManager"], query.get("force") == "true")
            return 201 if new else 200, stored
        return 200, kube.patch(match, body)

    def _forward(self, url: str) -> tuple[int, str]:
        """What a pod answers, asked through the API server: which keeps the name that it was asked by."""
        host = self.headers["Host"]
        request = urllib.request.Request(url, headers={"Host": host, "X-Forwarded-Host": host})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def _send_elsewhere(self, answer: Any) -> None:
        """An object, or (status, text) of what is behind the API server."""
        status, text = answer if isinstance(answer, tuple) else (200, json.dumps(answer))
        self._send(status, text.encode())

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, chunks: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for chunk in chunks:
                if chunk:  # an empty one would be the end, and the real end the start of the next answer
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        except ConnectionError:  # the client left, or the test cuts the line
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Quiet: `KubeApi.requests` has them."""
