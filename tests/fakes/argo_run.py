"""A run's Argo Workflow as stock KFP 2.17 makes it: its nodes' names, ids, types and templates, in any state.

Taken from KFP's compiler (backend/src/v2/compiler/argocompiler), Argo's controller (operator.go: initializeNode,
generateNodeName; dag.go) and a real run. Stock 2.17 has a retryStrategy in Argo's templateDefaults, so that every node
is a Retry with its attempts below it, those of DAGs included; before, and with `defaults=False`, only the pods of
steps with retries of their own are.
"""

import base64
import gzip
import json
import uuid
from typing import Any

STARTED = "2026-11-29T10:00:00Z"
EXECUTOR, IMPL = "retry-system-container-executor", "retry-system-container-impl"
_V2_STATES = {"Succeeded": "SUCCEEDED", "Failed": "FAILED", "Error": "FAILED", "Skipped": "SKIPPED"}
_V2_STATES |= {"Omitted": "SKIPPED", "Running": "RUNNING", "Pending": "PENDING"}


class ArgoRun:
    """Nodes are added by `step`; `manifest` is the Workflow that KFP keeps, `tasks` what it makes of it."""

    def __init__(self, name: str = "museum-classifier-7xk2p", defaults: bool = True) -> None:
        self.name, self._defaults = name, defaults
        self.nodes: dict[str, dict[str, Any]] = {}
        self._clock = 0

    def step(self, way: str, *attempts: str, cached: bool = False, driver: str = "Succeeded") -> list[str]:
        """Adds a task and all that is around it; returns the names of its pods.

        Args:
            way: such as `query`, or `for-loop-1/2 of 4/fetch`: the third of four iterations.
            attempts: `PHASE` or `PHASE:message` of its pods, one after the other; none if it did not come so far.
            driver: the same of KFP's driver.
        """
        parent = self._around(way.split("/")[:-1])
        task = way.rpartition("/")[2]
        pods = [self._pod(f"{parent}.{task}-driver", "system-container-driver", [driver])]
        if driver.startswith("Succeeded") and (attempts or cached):
            phase = "Succeeded" if cached else attempts[-1].partition(":")[0]
            own = self._group(f"{parent}.{task}", "DAG", EXECUTOR, "Running" if phase == "Pending" else phase)
            if cached:
                message = "when 'true != true' evaluated false"
                self._add(f"{own}.executor", "Skipped", IMPL, "Skipped", message)
            else:
                pods.append(self._pod(f"{own}.executor", IMPL, attempts, own_retries=True))
        return pods[-1]

    def without(self, way: str, phase: str, message: str) -> None:
        """A task, or a DAG, that Argo leaves out: Skipped by a condition, or Omitted after a failure."""
        self._add(f"{self._around(way.split('/')[:-1])}.{way.rpartition('/')[2]}", "Skipped", "", phase, message)

    def manifest(self, phase: str, message: str = "", compressed: bool = False, terminated: bool = False) -> str:
        """The Workflow as JSON."""
        for node in self.nodes.values():
            if node["type"] in ("DAG", "Retry") and node["phase"] == "Running" and phase not in ("Running", "Pending"):
                node["phase"] = phase
        nodes: dict[str, Any] = {"nodes": self.nodes}
        if compressed:
            packed = gzip.compress(json.dumps(self.nodes).encode())
            nodes = {"compressedNodes": base64.b64encode(packed).decode()}
        return json.dumps(
            {
                "metadata": {"name": self.name, "namespace": "kubeflow", "annotations": {}},
                "spec": {"entrypoint": "entrypoint"} | ({"activeDeadlineSeconds": 0} if terminated else {}),
                "status": {"phase": phase, "startedAt": STARTED, "message": message, **nodes},
            }
        )

    def tasks(self) -> list[dict[str, Any]]:
        """`task_details` of KFP's v2beta1 API: UUIDs, no pod's name, children by Argo's ids of nodes."""
        return [
            {
                "task_id": str(uuid.uuid5(uuid.NAMESPACE_URL, node["id"])),
                "display_name": node["displayName"],
                "create_time": STARTED,
                "start_time": node["startedAt"],
                "end_time": node["finishedAt"] or "1970-01-01T00:00:00Z",
                "state": _V2_STATES[node["phase"]],
                "child_tasks": [{"pod_name": child} for child in node["children"]],
            }
            for _, node in sorted(self.nodes.items())
        ]

    def _around(self, parts: list[str]) -> str:
        """Makes the DAGs that a task is in; returns the name of the innermost."""
        name = self._group(self.name, "DAG", "entrypoint", "Running")
        name = self._group(f"{name}.root", "DAG", "root", "Running")
        for part in parts:
            index, _, count = part.partition(" of ")
            if not count:
                name = self._group(f"{name}.{part}", "DAG", f"comp-{part}", "Running")
                continue
            outputs = {"parameters": [{"name": "iteration-count", "value": count}]}
            self._pod(f"{name}.iteration-driver", "system-dag-driver", ["Succeeded"], outputs=outputs)
            name = self._group(f"{name}.iteration-iterations({index}:{index})", "DAG", "comp-iteration", "Running")
            self._pod(f"{name}.iteration-item-driver", "system-dag-driver", ["Succeeded"])
            name = self._group(f"{name}.iteration-item", "DAG", "comp", "Running")
        return name

    def _group(self, name: str, kind: str, template: str, phase: str) -> str:
        """A node, below a Retry where Argo's defaults have one; returns the name that stands before its children's."""
        if not self._defaults:
            self._add(name, kind, template, phase)
            return name
        self._add(name, "Retry", template, phase)
        self._add(f"{name}(0)", kind, template, phase, above=name)
        return f"{name}(0)"

    def _pod(
        self, name: str, template: str, attempts: Any, own_retries: bool = False, outputs: Any = None
    ) -> list[str]:
        retried = self._defaults or own_retries
        if retried:
            last = attempts[-1].partition(":")[0]
            self._add(name, "Retry", template, "Running" if last == "Pending" else last)
        pods = []
        for number, attempt in enumerate(attempts):
            phase, _, message = attempt.partition(":")
            own = f"{name}({number})" if retried else name
            node = self._add(own, "Pod", template, phase, message, above=name if retried else "", outputs=outputs)
            pods.append(f"{self.name}-{template}-{node['id'].rpartition('-')[2]}")
        if retried and outputs:
            self.nodes[self._id(name)]["outputs"] = outputs
        return pods

    def _add(
        self, name: str, kind: str, template: str, phase: str, message: str = "", above: str = "", outputs: Any = None
    ) -> dict[str, Any]:
        identity = self._id(name)
        if identity in self.nodes:
            return self.nodes[identity]
        self._clock += 1
        time = f"2026-11-29T10:{self._clock // 60:02}:{self._clock % 60:02}Z"
        self.nodes[identity] = {
            "id": identity,
            "name": name,
            "displayName": name.rpartition(".")[2],
            "type": kind,
            "templateName": template,
            "templateScope": f"local/{self.name}",
            "phase": phase,
            "message": message,
            "startedAt": time,
            "finishedAt": None if phase in ("Running", "Pending") else time,
            "children": [],
            **({"outputs": outputs} if outputs else {}),
        }
        if above:
            self.nodes[self._id(above)]["children"].append(identity)
        return self.nodes[identity]

    def _id(self, name: str) -> str:
        """As Argo's NodeID: the FNV-1a hash of the node's name behind the Workflow's."""
        if name == self.name:
            return name
        number = 0x811C9DC5
        for byte in name.encode():
            number = ((number ^ byte) * 0x01000193) & 0xFFFFFFFF
        return f"{self.name}-{number}"


def sample_run(state: str, shards: int = 3) -> ArgoRun:
    """The graph of the pipeline with `state` (of KFP) for the last shard's fetch, and "succeeded" before it."""
    run = ArgoRun()
    run.step("query", "Succeeded")
    for index in range(shards - 1):
        run.step(f"for-loop-1/{index} of {shards}/fetch", "Succeeded")
    last = f"for-loop-1/{shards - 1} of {shards}"
    if state == "SUCCEEDED":
        for step in (f"{last}/fetch", "assemble"):
            run.step(step, "Succeeded")
        run.step("train", cached=True)
    elif state == "FAILED":
        failure = "Failed:main: Error (exit code 1)"
        run.step(f"{last}/fetch", failure, failure)
        run.without("assemble-driver", "Omitted", "omitted: depends condition not met")
    elif state == "CANCELED":
        run.step(f"{last}/fetch", "Failed:Step exceeded its deadline")
    else:
        run.step(f"{last}/fetch", "Running")
    return run
