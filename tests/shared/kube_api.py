"""A Kubernetes API server for tests: real HTTP on loopback, objects checked against the real OpenAPI schemas.

    with KubeApi() as kube:
        monkeypatch.setenv("KUBECONFIG", kube.kubeconfig(tmp_path / "kubeconfig"))
        kube.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store"}, "data": {}})
        kube.controllers.append(...)   # called as controller(event, object) after every change

It stores objects of any kind; knows server-side apply, merge patch, create, replace, list with selectors, watch, delete
with garbage collection by owner, status subresources and logs. It refuses what it is told to (`refuse`).
"""

import copy
import json
import re
import sys
import threading
import time
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate
import yaml

Object = dict[str, Any]
Controller = Callable[[str, Object], None]

SCHEMA_VERSION = "1.37"
_PATH = re.compile(
    r"^/(?:api|apis)/(?P<version>v1|[^/]+/[^/]+)/namespaces/(?P<namespace>[^/]+)/(?P<plural>[a-z]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<sub>status|log|scale))?$"
)
_NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")
_LIST_KEYS = ("name", "containerPort", "mountPath", "port", "type", "uid", "topologyKey")
_IMMUTABLE = {"Job": ("completions", "selector", "template", "completionMode"), "Deployment": ("selector",)}


class Refusal(Exception):
    """An answer that is not 2xx."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


class KubeApi:
    """The server; `requests` lists (method, path) as they came, `controllers` hear of every change."""

    def __init__(self, namespace: str = "kubeflow") -> None:
        self.namespace = namespace
        self.requests: list[tuple[str, str]] = []
        self.controllers: list[Controller] = []
        self.logs: Callable[[Object, dict[str, str]], Iterator[bytes]] | None = None
        self._objects: dict[tuple[str, str, str], Object] = {}  # (version, plural, name)
        self._applied: dict[tuple[str, str, str], dict[str, Object]] = {}  # ... -> field manager -> what it applied
        self._events: list[tuple[int, str, Object]] = []
        self._refusals: list[tuple[str, str, Refusal, list[int]]] = []
        self._revision = 0
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"kube": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.closing = False

    def __enter__(self) -> "KubeApi":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self.closing = True
            self._changed.notify_all()
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

    def all(self, kind: str) -> list[Object]:
        """Copies of the stored objects of `kind`, by name."""
        with self.lock:
            found = [entry for entry in self._objects.values() if entry["kind"] == kind]
            return copy.deepcopy(sorted(found, key=lambda entry: entry["metadata"]["name"]))

    def one(self, kind: str, name: str) -> Object | None:
        """A copy of an object, or None."""
        return next((entry for entry in self.all(kind) if entry["metadata"]["name"] == name), None)

    def put(self, obj: Object) -> Object:
        """Stores an object as a controller would: created or replaced, status and all."""
        plural = _plural(obj["kind"])
        with self.lock:
            return self._store((obj["apiVersion"], plural, obj["metadata"]["name"]), copy.deepcopy(obj))

    def change(self, kind: str, name: str, edit: Callable[[Object], None]) -> None:
        """Edits a stored object in place, if it is there."""
        with self.lock:
            if (found := self.one(kind, name)) is not None:
                edit(found)
                self.put(found)

    def wait(self, condition: Callable[[], Any], seconds: float = 60) -> Any:
        """Returns what `condition` returns as soon as that is true; it is asked after every change."""
        until = time.monotonic() + seconds
        with self._changed:
            while not (value := condition()):
                left = until - time.monotonic()
                assert left > 0 and not self.closing, "the cluster did not come to what the test waits for"
                self._changed.wait(min(left, 0.2))
            return value

    @contextmanager
    def changed(self) -> Iterator[None]:
        """Wakes those that wait: for changes that are not in an object."""
        with self._changed:
            yield
            self._changed.notify_all()

    # ---- what the handler calls

    def check(self, method: str, path: str) -> re.Match:
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

    def read(self, match: re.Match) -> Object:
        with self.lock:
            key = (match["version"], match["plural"], match["name"])
            if key not in self._objects:
                raise Refusal(404, "NotFound", f'{match["plural"]} "{match["name"]}" not found')
            return copy.deepcopy(self._objects[key])

    def find(self, match: re.Match, query: dict[str, str]) -> list[Object]:
        with self.lock:
            key = (match["version"], match["plural"])
            found = [entry for name, entry in sorted(self._objects.items()) if name[:2] == key]
            return copy.deepcopy([entry for entry in found if _selected(entry, query)])

    def create(self, match: re.Match, obj: Object) -> Object:
        with self.lock:
            key = (match["version"], match["plural"], obj["metadata"]["name"])
            if key in self._objects:
                raise Refusal(409, "AlreadyExists", f'{match["plural"]} "{key[2]}" already exists')
            return self._store(key, _validated(obj))

    def replace(self, match: re.Match, obj: Object) -> Object:
        with self.lock:
            self.read(match)
            return self._store((match["version"], match["plural"], match["name"]), _validated(obj))

    def apply(self, match: re.Match, obj: Object, manager: str) -> Object:
        with self.lock:
            key = (match["version"], match["plural"], match["name"])
            if obj.get("metadata", {}).get("name") != match["name"]:
                raise Refusal(400, "BadRequest", "the name of the object does not match the name on the URL")
            _validated(obj)
            before = self._applied.setdefault(key, {}).get(manager, {})
            live = self._objects.get(key, {})
            merged = _merged(copy.deepcopy(live), before, obj)
            self._applied[key][manager] = copy.deepcopy(obj)
            return self._store(key, _validated(merged))

    def patch(self, match: re.Match, change: Object) -> Object:
        with self.lock:
            merged = _merge_patched(self.read(match), change)
            return self._store((match["version"], match["plural"], match["name"]), _validated(merged))

    def delete(self, match: re.Match) -> Object:
        obj = self.read(match)
        self.remove(obj["kind"], obj["metadata"]["name"])
        return obj

    def remove(self, kind: str, name: str, final: bool = False) -> None:
        """Deletes an object and what it owns. A pod with a running process ends first: its controller removes it."""
        with self.lock:
            obj = self.one(kind, name)
            if obj is None:
                return
            key = (obj["apiVersion"], _plural(kind), name)
            if kind == "Pod" and not final and obj.get("status", {}).get("phase") in ("Pending", "Running"):
                if "deletionTimestamp" not in obj["metadata"]:
                    obj["metadata"]["deletionTimestamp"] = now()
                    self._store(key, obj)
                return
            del self._objects[key]
            self._applied.pop(key, None)
            self._emit("DELETED", obj)
            for entry in list(self._objects.values()):
                owners = [owner["uid"] for owner in entry["metadata"].get("ownerReferences", [])]
                if obj["metadata"]["uid"] in owners and not self._alive(owners):
                    self.remove(entry["kind"], entry["metadata"]["name"])

    def watch(self, match: re.Match, query: dict[str, str]) -> Iterator[bytes]:
        seen = int(query.get("resourceVersion") or 0)
        until = time.monotonic() + float(query.get("timeoutSeconds") or 60)
        while time.monotonic() < until and not self.closing:
            with self._changed:
                events = [event for event in self._events if event[0] > seen]
                if not events:
                    self._changed.wait(0.2)
            for seen, kind, obj in events:
                if (obj["apiVersion"], _plural(obj["kind"])) == (match["version"], match["plural"]):
                    if _selected(obj, query):
                        yield json.dumps({"type": kind, "object": obj}).encode() + b"\n"

    def _alive(self, uids: list[str]) -> bool:
        return any(entry["metadata"]["uid"] in uids for entry in self._objects.values())

    def _store(self, key: tuple[str, str, str], obj: Object) -> Object:
        before = self._objects.get(key)
        metadata = obj["metadata"]
        _check_unchanged(before, obj)
        self._revision += 1
        metadata.setdefault("namespace", self.namespace)
        metadata.setdefault("uid", before["metadata"]["uid"] if before else str(uuid.uuid4()))
        metadata.setdefault("creationTimestamp", now())
        same = before is not None and before.get("spec") == obj.get("spec")
        generation = before["metadata"].get("generation", 1) if before else 0
        metadata["generation"] = generation if same else generation + 1
        metadata["resourceVersion"] = str(self._revision)
        if before is not None and "status" not in obj and "status" in before:
            obj["status"] = before["status"]
        self._objects[key] = obj
        self._emit("MODIFIED" if before else "ADDED", obj)
        return copy.deepcopy(obj)

    def _emit(self, event: str, obj: Object) -> None:
        with self._changed:
            self._events.append((self._revision, event, copy.deepcopy(obj)))
            self._changed.notify_all()
        for controller in self.controllers:
            controller(event, copy.deepcopy(obj))


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
            items = kube.find(match, query)
            return 200, {"kind": "List", "apiVersion": match["version"], "metadata": {}, "items": items}
        if self.command == "POST":
            return 201, kube.create(match, body)
        if self.command == "PUT":
            return 200, kube.replace(match, body)
        if self.command == "DELETE":
            return 200, kube.delete(match)
        if "apply-patch" in media:
            if "fieldManager" not in query:
                raise Refusal(400, "BadRequest", "fieldManager is required for apply patch")
            return 200, kube.apply(match, body, query["fieldManager"])
        return 200, kube.patch(match, body)

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
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        except ConnectionError:  # the client left, or the test cuts the line
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Quiet: `KubeApi.requests` has them."""


def now() -> str:
    """The time as Kubernetes writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _plural(kind: str) -> str:
    return kind.lower().removesuffix("y") + "ies" if kind.endswith("Policy") else kind.lower() + "s"


def _validated(obj: Object) -> Object:
    name = obj.get("metadata", {}).get("name", "")
    longest = 63 if obj.get("kind") in ("Service", "Job") else 253
    if not _NAME.match(name) or len(name) > longest:
        raise Refusal(422, "Invalid", f"metadata.name: Invalid value: {name!r}")
    try:
        kubernetes_validate.validate(obj, SCHEMA_VERSION, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        pass  # a custom resource
    except kubernetes_validate.ValidationError as error:
        raise Refusal(422, "Invalid", str(error).splitlines()[0]) from error
    return obj


def _check_unchanged(before: Object | None, after: Object) -> None:
    for field in _IMMUTABLE.get(after["kind"], ()):
        if before is not None and before["spec"].get(field) != after["spec"].get(field):
            raise Refusal(422, "Invalid", f"spec.{field}: field is immutable")


def _selected(obj: Object, query: dict[str, str]) -> bool:
    labels = obj["metadata"].get("labels", {})
    pairs = [pair.partition("=") for pair in query.get("labelSelector", "").split(",") if pair]
    if any(labels.get(name) != value.lstrip("=") for name, _, value in pairs):
        return False
    for name, _, value in (pair.partition("=") for pair in query.get("fieldSelector", "").split(",") if pair):
        found: Any = obj
        for part in name.split("."):
            found = found.get(part, {})
        if found != value:
            return False
    return True


def _merged(live: Any, before: Any, new: Any) -> Any:
    """Server-side apply: `new` wins, and what the same manager applied `before` and no longer does goes."""
    if isinstance(new, dict) and isinstance(live, dict):
        before = before if isinstance(before, dict) else {}
        kept = {name: value for name, value in live.items() if name in new or name not in before}
        return kept | {name: _merged(live.get(name), before.get(name), value) for name, value in new.items()}
    key = _list_key(new)
    if key and isinstance(live, list) and _list_key(live) == key:
        old, ours = {item[key]: item for item in live}, {item[key] for item in before or []}
        names = {item[key] for item in new}
        kept = [item for item in live if item[key] not in names and item[key] not in ours]
        return [_merged(old.get(item[key], {}), {}, item) for item in new] + kept
    return copy.deepcopy(new)


def _list_key(value: Any) -> str | None:
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        return None
    return next((key for key in _LIST_KEYS if all(key in item for item in value)), None)


def _merge_patched(target: Any, change: Any) -> Any:
    if not isinstance(change, dict):
        return change
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in change.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merge_patched(result.get(name), value)
    return result
