"""The UI's server of Kubeflow Pipelines 2.17, where it starts TensorBoard: frontend/server/handlers/tensorboard.ts."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class KfpUi(ThreadingHTTPServer):
    """`viewers` are those that were made: name -> the query that made it. `old` answers as KFP 2.15 does."""

    daemon_threads = True

    def __init__(self, old: bool = False, refuse: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.viewers: dict[str, dict[str, str]] = {}
        self.old, self.refuse = old, refuse

    def __enter__(self) -> "KfpUi":
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: KfpUi

    def do_GET(self) -> None:
        found = self._viewer() in self.server.viewers
        path = self._path() if found and not self.server.old else ""
        self._answer(json.dumps({"proxyPath": path, "tfVersion": "", "image": ""}))

    def do_POST(self) -> None:
        query, name = self._query(), self._viewer()
        if urlsplit(self.path).path != "/apps/tensorboard":
            return self._answer("Not Found", 404)
        if not {"logdir", "namespace", "image"} <= set(query):
            return self._answer("missing required argument", 400)
        if name in self.server.viewers:  # the image's tag is taken for TensorFlow's version, which was not given
            return self._answer("There's already an existing tensorboard instance with a different version", 500)
        self.server.viewers[name] = query
        self._answer(f"http://{name}-service.kubeflow.svc.cluster.local:80" if self.server.old else self._path())

    def _query(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.path).query).items()}

    def _viewer(self) -> str:
        return "viewer-" + hashlib.sha1(self._query().get("logdir", "").encode()).hexdigest()

    def _path(self) -> str:
        return f"apps/tensorboard/proxy/signed.{self._viewer()}/"

    def _answer(self, text: str, status: int = 200) -> None:
        self.send_response(self.server.refuse or status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass
