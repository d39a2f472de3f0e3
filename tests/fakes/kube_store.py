"""What a Kubernetes API server does to its objects, for tests, of whatever kind they are.

Server-side apply, merge patch, create, replace, list with selectors, watch, delete with garbage collection by owner.
"""

import copy
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.fakes.kube_merge import conflict, merge_patched, merged
from tests.fakes.kube_objects import (
    Object,
    Refusal,
    check_unchanged,
    check_version,
    now,
    plural,
    selected,
    validated,
    with_status_of,
)

Controller = Callable[[str, Object], None]


class KubeStore:
    """The objects; `controllers` hear of every change."""

    def __init__(self, namespace: str = "kubeflow") -> None:
        self.namespace = namespace
        self.controllers: list[Controller] = []
        self._objects: dict[tuple[str, str, str], Object] = {}  # (version, plural, name)
        self._applied: dict[tuple[str, str, str], dict[str, Object]] = {}  # ... -> field manager -> what it applied
        self._events: list[tuple[int, str, Object, Object | None]] = []  # revision, type, object, as it was before
        self._revision = 0
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self.closing = False

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
        key = (obj["apiVersion"], plural(obj["kind"]), obj["metadata"]["name"])
        with self.lock:
            return self._store(key, copy.deepcopy(obj))

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

    def close(self) -> None:
        """Ends what waits for changes."""
        with self._changed:
            self.closing = True
            self._changed.notify_all()

    # ---- what requests do: `match` is their path

    def read(self, match: re.Match) -> Object:
        with self.lock:
            key = (match["version"], match["plural"], match["name"])
            if key not in self._objects:
                raise Refusal(404, "NotFound", f'{match["plural"]} "{match["name"]}" not found')
            return copy.deepcopy(self._objects[key])

    def find(self, match: re.Match, query: dict[str, str]) -> Object:
        """A list, with the revision from which a watch goes on."""
        with self.lock:
            key = (match["version"], match["plural"])
            found = [entry for name, entry in sorted(self._objects.items()) if name[:2] == key]
            items = copy.deepcopy([entry for entry in found if selected(entry, query)])
            metadata = {"resourceVersion": str(self._revision)}
            return {"kind": "List", "apiVersion": match["version"], "metadata": metadata, "items": items}

    def create(self, match: re.Match, obj: Object) -> Object:
        with self.lock:
            key = (match["version"], match["plural"], obj["metadata"]["name"])
            if key in self._objects:
                raise Refusal(409, "AlreadyExists", f'{match["plural"]} "{key[2]}" already exists')
            return self._store(key, with_status_of(validated(obj), None))

    def replace(self, match: re.Match, obj: Object) -> Object:
        with self.lock:
            return self._change(match, self.read(match), obj)

    def apply(self, match: re.Match, obj: Object, manager: str, force: bool) -> tuple[bool, Object]:
        """Whether it is new, and the object."""
        with self.lock:
            key = (match["version"], match["plural"], match["name"])
            if obj.get("metadata", {}).get("name") != match["name"]:
                raise Refusal(400, "BadRequest", "the name of the object does not match the name on the URL")
            validated(obj)
            check_version(self._objects.get(key), obj)
            others = {name: applied for name, applied in self._applied.get(key, {}).items() if name != manager}
            live = self._objects.get(key)
            for name, applied in {} if force else others.items():
                if path := conflict(live, applied, obj):
                    raise Refusal(409, "Conflict", f'Apply failed with 1 conflict: conflict with "{name}": {path}')
            before = self._applied.setdefault(key, {}).get(manager, {})
            changed = validated(merged(copy.deepcopy(live or {}), before, obj, list(others.values())))
            self._applied[key][manager] = copy.deepcopy(obj)
            return live is None, self._store(key, with_status_of(changed, live))

    def patch(self, match: re.Match, change: Object) -> Object:
        with self.lock:
            live = self.read(match)
            return self._change(match, live, merge_patched(live, change))

    def _change(self, match: re.Match, live: Object, changed: Object) -> Object:
        """Stores what a request makes of `live`: its status, by the path of that, or all else."""
        check_version(live, changed)
        if match["sub"] == "status":
            changed = live | {"status": changed.get("status", {})}
        else:
            changed = with_status_of(changed, live)
        return self._store((match["version"], match["plural"], match["name"]), validated(changed))

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
            key = (obj["apiVersion"], plural(kind), name)
            if kind == "Pod" and not final and obj.get("status", {}).get("phase") in ("Pending", "Running"):
                if "deletionTimestamp" not in obj["metadata"]:
                    obj["metadata"]["deletionTimestamp"] = now()
                    self._store(key, obj)
                return
            del self._objects[key]
            self._applied.pop(key, None)
            self._revision += 1
            self._emit("DELETED", obj, obj)
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
            for seen, kind, obj, before in events:  # noqa: B007  where the next look goes on
                if (obj["apiVersion"], plural(obj["kind"])) == (match["version"], match["plural"]):
                    if kind := _seen(kind, selected(obj, query), before is not None and selected(before, query)):
                        yield json.dumps({"type": kind, "object": obj}).encode() + b"\n"

    def _alive(self, uids: list[str]) -> bool:
        return any(entry["metadata"]["uid"] in uids for entry in self._objects.values())

    def _store(self, key: tuple[str, str, str], obj: Object) -> Object:
        before = self._objects.get(key)
        metadata = obj["metadata"]
        check_unchanged(before, obj)
        metadata.setdefault("namespace", self.namespace)
        metadata.setdefault("uid", before["metadata"]["uid"] if before else str(uuid.uuid4()))
        metadata.setdefault("creationTimestamp", now())
        same = before is not None and before.get("spec") == obj.get("spec")
        generation = before["metadata"].get("generation", 1) if before else 0
        metadata["generation"] = generation if same else generation + 1
        if before is not None and "status" not in obj and "status" in before:
            obj["status"] = before["status"]
        metadata["resourceVersion"] = before["metadata"]["resourceVersion"] if before else ""
        if obj == before:
            return copy.deepcopy(obj)
        self._revision += 1
        metadata["resourceVersion"] = str(self._revision)
        self._objects[key] = obj
        self._emit("MODIFIED" if before else "ADDED", obj, before)
        return copy.deepcopy(obj)

    def _emit(self, event: str, obj: Object, before: Object | None) -> None:
        with self._changed:
            self._events.append((self._revision, event, copy.deepcopy(obj), copy.deepcopy(before)))
            self._changed.notify_all()
        for controller in self.controllers:
            controller(event, copy.deepcopy(obj))


def _seen(kind: str, selected: bool, selected_before: bool) -> str:
    """The event as a watch with selectors sees it: what leaves the selection is deleted for it. Empty for none."""
    if kind == "DELETED" or not selected:
        return "DELETED" if selected_before else ""
    return "MODIFIED" if selected_before else "ADDED"
