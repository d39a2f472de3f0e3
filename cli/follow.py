"""A run on a KFP server, as lines: each step's changes, and why a step failed."""

import re
import time
import urllib.request
from dataclasses import dataclass
from typing import Any, Callable, Iterator
from urllib.parse import urlencode

from cli.cluster import NEEDS

POLL_SECONDS = 5.0
FINAL = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
_SHARDED = ("fetch", "convert")
_ITERATION = re.compile(r"iteration-iterations\((\d+):\d+\)")
_LOST_TRIES = 24


@dataclass(frozen=True)
class Step:
    """One task of the graph, once a shard: the server's `key`, a `name` for people, the `pod` of the last attempt."""

    key: str
    name: str
    state: str
    pod: str = ""


def follow(get_run: Callable[[], Any], read_log: Callable[[str], str], link: str) -> int:
    """Prints each step's changes until the run ends; returns 0 if it succeeded. Raises what `get_run` keeps raising."""
    seen: dict[str, str] = {}
    lost = 0
    while True:
        try:
            run = get_run()
            lost = 0
        except Exception:  # a server that restarts is not the end of the run
            lost += 1
            if lost > _LOST_TRIES:
                raise
            time.sleep(POLL_SECONDS)
            continue
        for step in steps(run):
            if seen.get(step.key) != step.state:
                seen[step.key] = step.state
                print(f"{time.strftime('%H:%M:%S')} {step.name}: {step.state.lower()}", flush=True)
                if step.state == "FAILED" and step.pod:
                    print(f"         {_reason(step.pod, read_log)}", flush=True)
        if run.state in FINAL:
            print(f"run {run.state.lower()}: {link}", flush=True)
            return 0 if run.state == "SUCCEEDED" else 1
        time.sleep(POLL_SECONDS)


def steps(run: Any) -> list[Step]:
    """The tasks that the graph names. The server's are Argo's nodes: drivers, executors and iterations among them."""
    nodes = list((run.run_details.task_details if run.run_details else None) or [])
    graph = _Graph(nodes)
    shards = len({node.display_name for node in nodes if _ITERATION.fullmatch(node.display_name or "")})
    found = []
    for node in nodes:
        name = node.display_name or ""
        if name not in NEEDS or not node.state:
            continue
        shard = graph.iteration(node) if name in _SHARDED else None
        shown = name if shard is None else f"{name} {shard + 1}/{shards}"
        found.append(Step(node.task_id, shown, node.state, graph.failed_pod(node)))
    return found


class _Graph:
    """Argo's nodes by what their parents call them: a node's id and its pod's name end in the same number."""

    def __init__(self, nodes: list[Any]) -> None:
        self._by_number = {_number(node.pod_name or node.task_id): node for node in nodes}
        self._children = {
            node.task_id: [
                child
                for entry in node.child_tasks or ()
                if (child := self._by_number.get(_number(entry.pod_name or entry.task_id))) is not None
            ]
            for node in nodes
        }
        self._parents: dict[str, list[Any]] = {}
        for node in nodes:
            for child in self._children[node.task_id]:
                self._parents.setdefault(child.task_id, []).append(node)

    def iteration(self, node: Any) -> int | None:
        """Number of the loop's iteration that `node` is in, from 0."""
        found = (_ITERATION.fullmatch(above.display_name or "") for above in self._reached(node, self._parents))
        return next((int(match[1]) for match in found if match), None)

    def failed_pod(self, node: Any) -> str:
        """Name of the pod of the last attempt of a step that failed."""
        below = self._reached(node, self._children, lambda child: (child.display_name or "").startswith("executor"))
        failed = [child for child in below if child.state == "FAILED" and "-impl-" in (child.pod_name or "")]
        return max(failed, key=lambda child: child.display_name).pod_name if failed else ""

    def _reached(self, node: Any, edges: dict[str, list[Any]], wanted=lambda node: True) -> Iterator[Any]:
        waiting, seen = list(edges.get(node.task_id, ())), {node.task_id}
        while waiting:
            following = waiting.pop(0)
            if following.task_id not in seen and wanted(following):
                seen.add(following.task_id)
                yield following
                waiting += edges.get(following.task_id, ())


def _number(name: str) -> str:
    return name.rpartition("-")[2]


def _reason(pod: str, read_log: Callable[[str], str]) -> str:
    try:
        lines = [line.strip() for line in read_log(pod).splitlines()]
    except OSError:
        lines = []
    errors = [line for line in lines if line.startswith("error: ")]
    return errors[-1] if errors else f"kubectl logs {pod} -c main says why"


def log_reader(host: str, run_id: str, namespace: str, token: str | None) -> Callable[[str], str]:
    """Reads a pod's log through KFP's UI, or else through its API server. The function raises OSError."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    query = urlencode({"runid": run_id, "podnamespace": namespace})

    def read(pod: str) -> str:
        error: OSError = OSError("no log")
        for path in (f"k8s/pod/logs?podname={pod}&{query}", f"apis/v1alpha1/runs/{run_id}/nodes/{pod}/log"):
            try:
                request = urllib.request.Request(f"{host.rstrip('/')}/{path}", headers=headers)
                with urllib.request.urlopen(request, timeout=15) as response:
                    return response.read().decode(errors="replace")
            except OSError as failed:
                error = failed
        raise error

    return read
