"""The Job controller and the kubelet for `KubeApi`: Indexed Jobs whose pods run as processes of this machine.

    jobs = KubeJobs(kube, folder)            # folder: where logs are kept
    jobs.images["train:1"] = repository      # what `python -m ...` runs in for an image: a folder on PYTHONPATH
    jobs.kill("train-x-0-1")                 # SIGKILL to the pod whose name starts so
    jobs.lose("train-x-0-1")                 # its node is gone: no status, no log, the pod never ends
    jobs.unschedulable = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    jobs.waiting = ("ImagePullBackOff", "not found")
    jobs.cut_logs()                          # drops every log connection

Host names resolve as in a cluster: only by a headless Service with the pod's subdomain and labels, to a loopback port.
"""

import copy
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.fakes.kube_api import KubeApi
from tests.fakes.kube_objects import Object, now
from tests.fakes.object_stores import free_ports

_VARIABLE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
_HOST = re.compile(r"([a-z0-9-]+)\.([a-z0-9-]+):(\d+)")
# What a container of this machine needs to run at all; all else must come from the pod's spec.
_MACHINE = ("PATH", "LANG", "PYTHONDONTWRITEBYTECODE", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "TMPDIR")


class KubeJobs:
    """Runs the Jobs of `kube`; `environments` keeps what each pod's process was given."""

    def __init__(self, kube: KubeApi, folder: Path) -> None:
        self._kube, self._folder = kube, folder
        self.images: dict[str, Path] = {}
        self.environments: dict[str, dict[str, str]] = {}
        self.unschedulable = ""
        self.waiting: tuple[str, str] | None = None
        self._processes: dict[str, subprocess.Popen] = {}
        self._lost: set[str] = set()
        self._preempted: set[str] = set()  # Jobs
        self._ports: dict[str, int] = {}
        self._cuts = 0
        self._threads: list[threading.Thread] = []
        kube.controllers.append(self._hear)
        kube.logs = self._log

    def __enter__(self) -> "KubeJobs":
        return self

    def __exit__(self, *_: object) -> None:
        self._kube.closing = True
        for process in self._processes.values():
            process.kill()
        for thread in self._threads:
            thread.join(20)

    def kill(self, prefix: str, number: int = signal.SIGKILL) -> str:
        """Sends a signal to the process of the pod whose name starts with `prefix`; returns the pod's name."""
        name = self.running(prefix)
        self._processes[name].send_signal(number)
        return name

    def lose(self, prefix: str) -> str:
        """Takes the pod's node away: its process ends, nothing is reported, and the pod stays Terminating."""
        name = self.running(prefix)
        self._lost.add(name)
        disrupted = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}
        disrupted["message"] = "Taint manager: deleting due to NoExecute taint"
        self._kube.change("Pod", name, lambda pod: pod["status"].update(conditions=[disrupted]))
        self._processes[name].kill()
        self._kube.remove("Pod", name)
        return name

    def running(self, prefix: str) -> str:
        """Name of the running pod whose name starts with `prefix`, when there is one."""
        return self._kube.wait(lambda: next((name for name in self._running() if name.startswith(prefix)), None))

    def suspend(self, job: str, suspended: bool) -> None:
        """What Kueue does to admit a Job, or to take its room away; it also takes the start time away."""

        def edit(found: Object) -> None:
            found["spec"]["suspend"] = suspended
            if suspended and "kueue.x-k8s.io/queue-name" in found["metadata"]["labels"]:
                found.get("status", {}).pop("startTime", None)

        self._kube.change("Job", job, edit)

    def preempt(self, prefix: str) -> str:
        """The scheduler takes the pod away for one that is more important: SIGTERM, and a condition that says so."""
        name = self.running(prefix)
        disrupted = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
        disrupted["message"] = "default-scheduler: preempting to accommodate a higher priority pod"
        self._preempted.add(prefix.rpartition("-")[0])
        self._kube.change("Pod", name, lambda pod: pod["status"].update(conditions=[disrupted]))
        self._kube.remove("Pod", name)
        return name

    def cut_logs(self) -> None:
        """Breaks every log connection that is open."""
        with self._kube.changed():
            self._cuts += 1

    def log(self, name: str) -> str:
        """What the pod printed so far, timestamps and all."""
        path = self._folder / name
        return path.read_text() if path.exists() else ""

    def _running(self) -> list[str]:
        return [pod["metadata"]["name"] for pod in self._kube.all("Pod") if pod["status"].get("phase") == "Running"]

    # ---- the Job controller

    def _hear(self, event: str, obj: Object) -> None:
        if obj["kind"] == "Job" and event == "ADDED":
            if "kueue.x-k8s.io/queue-name" in obj["metadata"].get("labels", {}):
                self.suspend(obj["metadata"]["name"], True)  # Kueue's webhook does
            self._start(self._run_job, obj)
        if obj["kind"] == "Pod" and event == "MODIFIED" and "deletionTimestamp" in obj["metadata"]:
            self._end_pod(obj)

    def _start(self, target, *arguments: Any) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def _run_job(self, job: Object) -> None:
        name, spec = job["metadata"]["name"], job["spec"]
        while True:
            self._wait_for_admission(name)
            for index in range(spec["parallelism"] if self._kube.one("Job", name) else 0):
                pod = self._kube.put(_pod(job, index))
                self._start(self._run_pod, pod)
            self._kube.wait(lambda: self._has_ended(name) or self._is_suspended(name), 600)
            if self._kube.closing or not self._is_suspended(name):
                break
        pods = self._pods(name)
        failed = [pod for pod in pods if pod["status"]["phase"] == "Failed" or "deletionTimestamp" in pod["metadata"]]
        if failed or len(pods) < spec["completions"] or not self._is_settled(name):
            reason = "BackoffLimitExceeded" if self._is_settled(name) else "DeadlineExceeded"
            if name in self._preempted:
                reason = "PodFailurePolicy"
            condition = {"type": "FailureTarget", "status": "True", "reason": reason}
            self._set_status(name, {"failed": len(failed), "conditions": [condition]})
            for pod in pods:  # those that ended stay, to be looked at
                if pod["status"]["phase"] in ("Pending", "Running"):
                    self._kube.remove("Pod", pod["metadata"]["name"], final=pod["status"]["phase"] == "Pending")
            gone = ("Failed", "Succeeded")
            self._kube.wait(
                lambda: self._kube.closing or all(pod["status"]["phase"] in gone for pod in self._pods(name)), 600
            )
            self._set_status(name, {"failed": len(failed), "conditions": [condition, {**condition, "type": "Failed"}]})
        else:
            done = {"type": "Complete", "status": "True"}
            self._set_status(name, {"succeeded": len(pods), "conditions": [done]})

    def _wait_for_admission(self, name: str) -> None:
        """A suspended Job's pods end, are not counted, and its clock stands still."""
        if self._is_suspended(name):
            for pod in self._pods(name):
                self._kube.remove("Pod", pod["metadata"]["name"])
            self._kube.wait(lambda: self._kube.closing or not self._pods(name), 60)
            suspended = {"type": "Suspended", "status": "True", "reason": "JobSuspended"}
            self._set_status(name, {"conditions": [suspended]})
            self._kube.wait(lambda: self._kube.closing or not self._is_suspended(name), 600)
        # As seen on Kubernetes 1.34: past its deadline, by the old start time, a resumed Job fails.
        if self._kube.one("Job", name) and not self._is_overdue(name):
            self._set_status(name, {"startTime": now(), "conditions": []})

    def _is_suspended(self, name: str) -> bool:
        job = self._kube.one("Job", name)
        return bool(job and job["spec"].get("suspend"))

    def _has_ended(self, name: str) -> bool:
        return self._kube.closing or self._is_settled(name) or self._is_overdue(name)

    def _is_settled(self, name: str) -> bool:
        if self._kube.one("Job", name) is None:
            return True
        pods = self._pods(name)
        # podReplacementPolicy Failed: one that is only being deleted has not failed yet.
        over = [pod for pod in pods if pod["status"]["phase"] == "Failed"]
        missing = len(pods) < self._kube.one("Job", name)["spec"]["parallelism"]
        return bool(over) or missing or all(pod["status"]["phase"] == "Succeeded" for pod in pods)

    def _is_overdue(self, name: str) -> bool:
        job = self._kube.one("Job", name)
        started = job and job.get("status", {}).get("startTime")
        limit = job and job["spec"].get("activeDeadlineSeconds")
        return bool(started and limit) and time.time() > datetime.fromisoformat(started).timestamp() + limit

    def _pods(self, job: str) -> list[Object]:
        return [pod for pod in self._kube.all("Pod") if pod["metadata"].get("labels", {}).get("job-name") == job]

    def _set_status(self, name: str, status: Object) -> None:
        self._kube.change("Job", name, lambda job: job.update(status={**job.get("status", {}), **status}))

    # ---- the scheduler and the kubelet

    def _run_pod(self, pod: Object) -> None:
        name = pod["metadata"]["name"]
        if self.unschedulable or self.waiting:
            self._set_pod(name, self._stuck())
            return
        environment = self._environment(pod)
        container = pod["spec"]["containers"][0]
        command = [sys.executable if part == "python" else part for part in container["command"] + container["args"]]
        folder = self.images[container["image"]]
        environment["PYTHONPATH"] = str(folder)
        self.environments[name] = environment
        with open(self._folder / name, "a", buffering=1) as log:
            process = subprocess.Popen(
                command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            self._processes[name] = process
            self._set_pod(name, {"phase": "Running", "containerStatuses": [_state("running", {"startedAt": now()})]})
            for line in process.stdout:
                with self._kube.changed():
                    log.write(f"{_timestamp()} {line}")
        status = process.wait()
        if name not in self._lost:
            self._finish(name, status if status >= 0 else 128 - status)

    def _finish(self, name: str, status: int) -> None:
        pod = self._kube.one("Pod", name)
        if pod is None:
            return
        ended = {"exitCode": status, "finishedAt": now(), "reason": "Completed" if status == 0 else "Error"}
        phase = "Succeeded" if status == 0 else "Failed"
        self._set_pod(name, {"phase": phase, "containerStatuses": [_state("terminated", ended)]})
        if "deletionTimestamp" in pod["metadata"]:
            self._kube.remove("Pod", name, final=True)

    def _end_pod(self, pod: Object) -> None:
        name = pod["metadata"]["name"]
        process = self._processes.get(name)
        if process is None and name not in self._lost:
            self._kube.remove("Pod", name, final=True)
        elif process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)

    def _stuck(self) -> Object:
        if self.unschedulable:
            refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            refused["message"] = self.unschedulable
            return {"phase": "Pending", "conditions": [refused]}
        reason, message = self.waiting
        return {"phase": "Pending", "containerStatuses": [_state("waiting", {"reason": reason, "message": message})]}

    def _set_pod(self, name: str, status: Object) -> None:
        self._kube.change("Pod", name, lambda pod: pod.update(status=status))

    def _environment(self, pod: Object) -> dict[str, str]:
        values = {name: os.environ[name] for name in _MACHINE if name in os.environ}
        values |= {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
        values["HOSTNAME"] = pod["spec"]["hostname"]
        for entry in pod["spec"]["containers"][0].get("env", []):
            values[entry["name"]] = self._value(entry, pod, values)
        return values

    def _value(self, entry: Object, pod: Object, values: dict[str, str]) -> str:
        source = entry.get("valueFrom", {})
        if "fieldRef" in source:
            path = source["fieldRef"]["fieldPath"]
            annotation = re.fullmatch(r"metadata\.annotations\['(.+)'\]", path)
            return pod["metadata"]["annotations"][annotation[1]] if annotation else pod["metadata"]["name"]
        if "secretKeyRef" in source:
            reference = source["secretKeyRef"]
            return self._kube.one("Secret", reference["name"])["stringData"][reference["key"]]
        # A reference to a variable that comes later, or to none, stays as it is.
        text = _VARIABLE.sub(lambda match: values.get(match[1], match[0]), entry.get("value", ""))
        return _HOST.sub(lambda match: self._resolved(match, pod), text)

    def _resolved(self, match: re.Match, pod: Object) -> str:
        service, labels = self._kube.one("Service", match[2]), pod["metadata"]["labels"]
        if not service or service["spec"].get("clusterIP") != "None" or pod["spec"].get("subdomain") != match[2]:
            return match[0]
        if not service["spec"]["selector"].items() <= labels.items():
            return match[0]
        with self._kube.lock:
            if match[1] not in self._ports:
                (self._ports[match[1]],) = free_ports(1)
            return f"127.0.0.1:{self._ports[match[1]]}"

    def _log(self, pod: Object, query: dict[str, str]) -> Iterator[bytes]:
        name, kube, cuts, sent = pod["metadata"]["name"], self._kube, self._cuts, 0
        since = query.get("sinceTime", "")[:19]  # whole seconds, as the real one
        tail = int(query.get("tailLines") or 0)
        while not kube.closing and name not in self._lost:
            found = kube.one("Pod", name)
            over = found is None or found["status"].get("phase") in ("Succeeded", "Failed")
            lines = [line for line in self.log(name).splitlines() if line[:19] >= since]
            lines = lines[-tail:] if tail else lines
            for line in lines[sent:]:
                yield ((line if "timestamps" in query else line.partition(" ")[2]) + "\n").encode()
            sent = len(lines)
            if over or "follow" not in query:
                return
            kube.wait(lambda sent=sent: self._cuts > cuts or kube.closing or self._has_more(name, since, sent), 600)
            if self._cuts > cuts:
                raise ConnectionResetError
        return

    def _has_more(self, name: str, since: str, sent: int) -> bool:
        pod = self._kube.one("Pod", name)
        over = pod is None or pod["status"].get("phase") in ("Succeeded", "Failed") or name in self._lost
        return over or len([line for line in self.log(name).splitlines() if line[:19] >= since]) > sent


def _pod(job: Object, index: int) -> Object:
    template = copy.deepcopy(job["spec"]["template"])
    name = job["metadata"]["name"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"], "controller": True}
    labels = {**template["metadata"].get("labels", {}), "job-name": name}
    annotations = {
        **template["metadata"].get("annotations", {}),
        "batch.kubernetes.io/job-completion-index": str(index),
    }
    container = template["spec"]["containers"][0]
    # The controller appends it, so that no variable of the Job can refer to it.
    container.setdefault("env", []).append({"name": "JOB_COMPLETION_INDEX", "value": str(index)})
    suffix = job["metadata"]["uid"][:5]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-{index}-{suffix}",
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner],
        },
        "spec": {**template["spec"], "hostname": f"{name}-{index}"},
        "status": {"phase": "Pending"},
    }


def _state(state: str, values: Object) -> Object:
    return {"name": "worker", "ready": state == "running", "restartCount": 0, "state": {state: values}}


def _timestamp() -> str:
    nanoseconds = time.time_ns()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(nanoseconds // 10**9)) + f".{nanoseconds % 10**9:09d}Z"
