"""A run's Argo Workflow: what it says of the steps of the graph.

KFP's own list of tasks cannot tell the steps of a loop apart, nor name a pod: it has UUIDs, names that repeat, and
children by ids of Argo's that occur nowhere else in it. The Workflow, which KFP's server keeps beside it, has node
names with the whole way through the graph: `RUN(0).root(0).for-loop-1(0).iteration-iterations(3:3)(0).….fetch(0)`.
"""

import base64
import gzip
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Node = Mapping[str, Any]

_ATTEMPT = re.compile(r"\((\d+)\)$")
_ITERATION = re.compile(r"iteration-iterations\((\d+):[^)]*\)")
_STATES = {"Pending": "pending", "Running": "running", "Succeeded": "succeeded", "Skipped": "skipped"}
_STATES |= {"Omitted": "omitted", "Failed": "failed", "Error": "failed"}
# What Argo writes at nodes that it ends because somebody ended the run.
_ENDED_WITH_THE_RUN = re.compile(r"exceeded its deadline|shutdown with strategy|[Tt]erminated$")
# Why a pod is pending that will not be for long, so nobody needs to hear of it.
_PASSING = ("", "PodInitializing", "ContainerCreating")


@dataclass(frozen=True)
class Attempt:
    """One pod of a step; `message` is Argo's word for how it ended, or what it waits for."""

    pod: str
    state: str
    message: str
    started: str
    ended: str


@dataclass(frozen=True)
class Step:
    """One task of the graph, once per iteration of a loop.

    Attributes:
        key: its way through the graph.
        name: for people, such as `fetch 3/4`.
        state: pending, running, succeeded, cached, skipped (by a condition), failed or terminated (with the run).
        waits: what its pod waits for, if that may take longer: an image, room on a node, a quota.
        attempts: its pods that have begun, in order; those of KFP's driver only where the driver itself failed.
        started: when, as ISO 8601; empty before.
    """

    key: tuple[str, ...]
    name: str
    state: str
    waits: str
    attempts: tuple[Attempt, ...]
    started: str


@dataclass(frozen=True)
class Workflow:
    """`nodes` are Argo's, by path and attempts; `message` says why the whole of it failed, if no step did."""

    name: str
    namespace: str
    message: str
    terminated: bool
    nodes: dict[tuple[str, ...], list[tuple[tuple[int, ...], Node]]]
    old_pod_names: bool = False

    def steps(self, names: Iterable[str]) -> list[Step]:
        """The tasks of the graph that have one of `names`, in the order in which they began."""
        wanted = {name: name for name in names} | {f"{name}-driver": name for name in names}
        keys = {(*path[:-1], wanted[path[-1]]) for path in self.nodes if path and path[-1] in wanted}
        found = [step for step in map(self._step, keys) if step.state != "omitted"]  # after a failure: they never began
        found += self._failed_elsewhere(keys)
        return sorted(found, key=lambda step: (step.started or "~", step.key))

    def _failed_elsewhere(self, steps: set[tuple[str, ...]]) -> Iterator[Step]:
        """KFP's own pods that failed and are no step's: the drivers of the run and of its loops and conditions."""
        for path in self.nodes:
            own, node = path[:-1] + (path[-1].removesuffix("-driver"),) if path else (), self._newest(path) or {}
            pods = self._pods(path)
            if pods and _STATES.get(node.get("phase", "")) == "failed" and not {own, path[:-1]} & steps:
                attempts = tuple(map(self._attempt, pods))
                yield Step(path, self._name(path), self._ending(pods[-1]), "", attempts, attempts[0].started)

    def _step(self, key: tuple[str, ...]) -> Step:
        driver, task = self._newest((*key[:-1], f"{key[-1]}-driver")), self._newest(key)
        executor = self._newest((*key, "executor"))
        attempts = tuple(map(self._attempt, self._pods((*key, "executor"))))
        state = self._state(driver, task, executor)
        if state == "failed" and not attempts:
            attempts = tuple(map(self._attempt, self._pods((*key[:-1], f"{key[-1]}-driver"))))
        if state == "failed" and attempts:
            state = attempts[-1].state if attempts[-1].state == "terminated" else state
        waits = ""
        if state in ("running", "pending"):
            # KFP's driver, which comes first, is not the step: that one runs when its own pod does.
            waiting = self._pending(executor or driver)
            state = "running" if attempts and not waiting else "pending"
            waits = (waiting or {}).get("message", "")
        started = min((node["startedAt"] for node in (driver, task) if node and node.get("startedAt")), default="")
        return Step(key, self._name(key), state, "" if waits in _PASSING else waits, attempts, started)

    def _state(self, driver: Node | None, task: Node | None, executor: Node | None) -> str:
        """Of a task: KFP's driver decides first whether it is cached, then Argo runs `executor` or leaves it out."""
        before = _STATES.get((driver or {}).get("phase", ""), "pending")
        if before == "failed":
            return self._ending(driver)
        if task is None:
            return "running" if before == "succeeded" else before  # Argo is about to go on with the executor
        state = _STATES.get(task.get("phase", ""), "pending")
        if state == "succeeded" and executor is not None and executor.get("phase") == "Skipped":
            return "cached"
        return self._ending(task) if state == "failed" else state

    def _ending(self, node: Node | None) -> str:
        ended = self.terminated and _ENDED_WITH_THE_RUN.search((node or {}).get("message", ""))
        return "terminated" if ended else "failed"

    def _pending(self, node: Node | None) -> Node | None:
        """The pod behind `node` that has not begun: the newest attempt."""
        if node is None:
            return None
        pods = self._pods(self._path(node))
        return pods[-1] if pods and pods[-1].get("phase") == "Pending" else None

    def _path(self, node: Node) -> tuple[str, ...]:
        return _parsed(self.name, node["name"])[0]

    def _newest(self, path: tuple[str, ...]) -> Node | None:
        """The node in the newest attempt of all that is around it: the one that stands for all of its own attempts."""
        found = self.nodes.get(path)
        if not found:
            return None
        around = max(attempts[:-1] for attempts, _ in found)
        return min((entry for entry in found if entry[0][:-1] == around), key=lambda entry: entry[0][-1])[1]

    def _pods(self, path: tuple[str, ...]) -> list[Node]:
        found = sorted(self.nodes.get(path, ()), key=lambda entry: entry[0])
        return [node for _, node in found if node.get("type") == "Pod"]

    def _attempt(self, node: Node) -> Attempt:
        state = _STATES.get(node.get("phase", ""), "pending")
        state = self._ending(node) if state == "failed" else state
        started, ended = node.get("startedAt") or "", node.get("finishedAt") or ""
        return Attempt(self._pod_name(node), state, node.get("message", ""), started, ended)

    def _pod_name(self, node: Node) -> str:
        # As KFP's server finds it (backend/src/common/util/workflow.go, RetrievePodName).
        if self.old_pod_names:
            return node["id"]
        return f"{self.name}-{node.get('templateName', '')}-{node['id'].rpartition('-')[2]}"

    def _name(self, key: tuple[str, ...]) -> str:
        numbers = [int(match[1]) for part in key if (match := _ITERATION.fullmatch(part))]
        if not numbers:
            return key[-1]
        place = next(place for place, part in enumerate(key) if _ITERATION.fullmatch(part))
        return f"{key[-1]} {numbers[0] + 1}/{self._iterations(key[:place])}"

    def _iterations(self, loop: tuple[str, ...]) -> int:
        """How often a loop runs: its driver says it before Argo has made all of the iterations."""
        outputs = ((self._newest((*loop, "iteration-driver")) or {}).get("outputs") or {}).get("parameters") or ()
        told = [entry.get("value", "") for entry in outputs if entry.get("name") == "iteration-count"]
        seen = {path[len(loop)] for path in self.nodes if len(path) > len(loop) and path[: len(loop)] == loop}
        begun = sum(bool(_ITERATION.fullmatch(part)) for part in seen)
        return max(begun, *(int(count) for count in told if count.isdecimal()), 0)


def read(manifest: str) -> Workflow | None:
    """The Workflow that a JSON text holds; None if it has no nodes (yet, or they are in a database of Argo's)."""
    try:
        found = json.loads(manifest)
        status = found.get("status") or {}
        nodes = status.get("nodes") or json.loads(_nodes_text(status) or "null")
    except (ValueError, AttributeError, OSError):
        return None
    if not nodes:
        return None
    metadata, spec = found["metadata"], found.get("spec") or {}
    workflow = Workflow(
        name=metadata["name"],
        namespace=metadata.get("namespace", ""),
        message=status.get("message", ""),
        terminated=spec.get("activeDeadlineSeconds") == 0 or bool(spec.get("shutdown")),
        nodes={},
        old_pod_names=(metadata.get("annotations") or {}).get("workflows.argoproj.io/pod-name-format") == "v1",
    )
    for node in nodes.values():
        path, attempts = _parsed(workflow.name, node.get("name", ""))
        workflow.nodes.setdefault(path, []).append((attempts, node))
    return workflow


def uncompressed(manifest: str) -> str:
    """The text of a Workflow and, after it, that of its nodes where Argo has compressed them. Raises ValueError."""
    return manifest + _nodes_text((json.loads(manifest) if manifest else {}).get("status") or {})


def _nodes_text(status: Mapping[str, Any]) -> str:
    """The nodes as JSON; empty unless Argo has compressed them, which it does beyond 1 MB, and KFP passes on."""
    packed = status.get("compressedNodes")
    return gzip.decompress(base64.b64decode(packed)).decode() if packed else ""


def _parsed(workflow: str, name: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """`RUN(0).root(0).fetch(1)` is ("root", "fetch"), and (0, 0, 1); an attempt is -1 where Argo makes no retries."""
    parts = list(_parts(name.removeprefix(workflow)))
    return tuple(part for part, _ in parts[1:]), tuple(attempt for _, attempt in parts)


def _parts(text: str) -> Iterator[tuple[str, int]]:
    for part in text.split("."):
        match = _ATTEMPT.search(part)
        yield (part[: match.start()], int(match[1])) if match else (part, -1)
