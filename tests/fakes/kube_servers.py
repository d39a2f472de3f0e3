"""The parts of a cluster that a rollout needs, played for tests: Deployments get pods, and each version's pods are one
real server process, started with the very command of the pod. Services lead to it by their selectors.
"""

import copy
import itertools
import queue
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

from components.serve import local
from tests.fakes.fronts import Fronts
from tests.fakes.kube_api import KubeApi
from tests.fakes.kube_objects import Object

SELECTED = ("museum-classifier/service", "museum-classifier/version")


class Servers:
    """Deployment controller, kubelet and kube-proxy; use it as a context manager.

    Attributes:
        broken_images: images that cannot be pulled.
        full: whether no node has room for a version that does not run yet.
        lag: seconds after which a Service, or a change of its selector, is known to those who connect.
    """

    def __init__(self, kube: KubeApi) -> None:
        self._kube = kube
        self.broken_images: set[str] = set()
        self.full = False
        self.lag = 0.0
        self._fronts = Fronts(self._route)
        self._selectors: dict[str, list[tuple[float, dict]]] = {}
        self._processes: dict[str, tuple[subprocess.Popen, int, object]] = {}
        self._events: queue.Queue = queue.Queue()
        self._turns = itertools.count()
        kube.controllers.append(self._hear)
        kube.logs = self._logs

    def __enter__(self) -> "Servers":
        threading.Thread(target=self._work, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._events.put(None)
        self._fronts.close()
        for name in list(self._processes):
            self._stop(name)

    def url(self, service: str) -> str:
        """Where `service` is reached: a connection ends at one of its ready pods, in turn."""
        return self._fronts.url(service)

    def _hear(self, event: str, obj: Object) -> None:
        if obj["kind"] == "Deployment":
            self._events.put((event, obj))
        elif obj["kind"] == "Service":
            selector = copy.deepcopy(obj["spec"].get("selector")) if event != "DELETED" else {}
            self._selectors.setdefault(obj["metadata"]["name"], []).append((time.monotonic(), selector))

    def _route(self, service: str) -> int | None:
        known = [selector for when, selector in self._selectors.get(service, []) if time.monotonic() - when >= self.lag]
        if not known or not known[-1]:
            return None
        pods = [
            pod
            for pod in self._kube.all("Pod")
            if known[-1].items() <= pod["metadata"].get("labels", {}).items()
            and pod["status"]["containerStatuses"][0]["ready"]
        ]
        if not pods:
            return None
        pod = pods[next(self._turns) % len(pods)]
        return self._processes[pod["metadata"]["annotations"]["deployment"]][1]

    def running(self) -> set[str]:
        """Names of the Deployments with a live process."""
        return {name for name, (process, _, _) in self._processes.items() if process.poll() is None}

    def _work(self) -> None:
        while (item := self._events.get()) is not None:
            event, deployment = item
            name = deployment["metadata"]["name"]
            live = None if event == "DELETED" else self._kube.one("Deployment", name)
            wanted = live["spec"]["replicas"] if live else 0
            if live and live["metadata"]["generation"] == live.get("status", {}).get("observedGeneration"):
                continue
            self._reconcile(name, live, wanted)

    def _reconcile(self, name: str, live: Object | None, wanted: int) -> None:
        for number in itertools.count(wanted):
            if self._kube.one("Pod", f"{name}-{number}") is None:
                break
            self._kube.remove("Pod", f"{name}-{number}", final=True)
        if not wanted:
            self._stop(name)
        ready = bool(wanted) and self._start(name, live)
        for number in range(wanted):
            self._kube.put(self._pod(name, number, live, ready))
        if live:
            counts = wanted if ready else 0
            status = {
                "observedGeneration": live["metadata"]["generation"],
                **dict.fromkeys(("replicas", "updatedReplicas"), wanted),
                **dict.fromkeys(("readyReplicas", "availableReplicas"), counts),
            }
            self._kube.change("Deployment", name, lambda obj: obj.update(status=status))

    def _start(self, name: str, live: Object) -> bool:
        """Starts the process of a version, unless it runs; returns whether it is ready."""
        container = live["spec"]["template"]["spec"]["containers"][0]
        if container["image"] in self.broken_images or (self.full and name not in self._processes):
            return False
        if name in self._processes:
            return self._processes[name][0].poll() is None
        port, log = local.free_port(), tempfile.TemporaryFile()
        command = [
            sys.executable,
            *container["command"][1:],
            *container["args"],
            "--workers",
            "1",
            "--host",
            "127.0.0.1",
        ]
        command[command.index("--port") + 1] = str(port)
        process = subprocess.Popen(command, stdout=log, stderr=log)
        self._processes[name] = (process, port, log)
        path = container["readinessProbe"]["httpGet"]["path"]
        while process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5):
                    return True
            except OSError:
                time.sleep(0.05)
        return False

    def _stop(self, name: str) -> None:
        if name in self._processes:
            process = self._processes.pop(name)[0]
            process.terminate()
            process.wait()

    def _pod(self, name: str, number: int, live: Object, ready: bool) -> Object:
        template = live["spec"]["template"]
        image = template["spec"]["containers"][0]["image"]
        status = {"name": "server", "ready": ready, "restartCount": 0, "image": image, "imageID": image}
        if image in self.broken_images:
            status["state"] = {"waiting": {"reason": "ImagePullBackOff", "message": f"no such image {image}"}}
        elif not ready and name in self._processes:
            status["restartCount"] = 3
        conditions = [{"type": "Ready", "status": str(ready)}]
        if self.full and name not in self._processes:
            message = "0/1 nodes are available: 1 Insufficient cpu."
            conditions.append({"type": "PodScheduled", "status": "False", "message": message})
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{name}-{number}",
                "labels": template["metadata"]["labels"],
                "annotations": {"deployment": name},
            },
            "spec": template["spec"],
            "status": {
                "phase": "Pending" if image in self.broken_images else "Running",
                "containerStatuses": [status],
                "conditions": conditions,
            },
        }

    def _logs(self, pod: Object, _query: dict[str, str]):
        log = self._processes[pod["metadata"]["annotations"]["deployment"]][2]
        log.seek(0)
        yield log.read()
