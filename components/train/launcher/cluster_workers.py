"""Training workers as pods: starts a generation's Job, follows it, and says how it ended."""

import dataclasses
import threading
import time
from dataclasses import dataclass
from datetime import datetime

from components.shared.errors import PipelineError, TransientError
from components.shared.kubernetes import CANNOT_START, Cluster, Object, condition
from components.train.launcher import job as objects
from components.train.launcher import queue
from components.train.launcher.resources import Resources
from components.train.launcher.restarts import TAIL_LINES, Failure, describe_status
from components.train.settings import Settings

_JOB = ("batch/v1", "Job")
_DISRUPTED = "DisruptionTarget"
# Reasons of it that have nothing to do with what the pod did; a kubelet that is short of memory has another one.
_PREEMPTED = ("PreemptionByScheduler", "DeletionByTaintManager", "EvictionByEvictionAPI", "DeletionByPodGC")
_LOST_SECONDS = 30  # after the time by which a deleted pod had to be gone


@dataclass(frozen=True)
class Timeouts:
    """In seconds.

    Attributes:
        poll: Between two requests for the state.
        scheduling, starting: Until workers are given up that no node takes, or that cannot start. A Job that is
            suspended waits for as long as it takes.
        deletion: Until deleted workers must be gone.
        lease: Until workers end whose step has not renewed its lease.
    """

    poll: float = 3
    scheduling: float = 1800
    starting: float = 300
    deletion: float = objects.GRACE_SECONDS + 30
    lease: float = objects.LEASE_SECONDS


class ClusterWorkers:
    """The workers of one model's training, on the cluster of `step_pod`, generation after generation."""

    def __init__(
        self,
        cluster: Cluster,
        step_pod: Object,
        training: str,
        settings: Settings,
        resources: Resources,
        arguments: list[str],
        timeouts: Timeouts = Timeouts(),
        prefix: str = "",
    ) -> None:
        self._cluster, self._step_pod, self._training = cluster, step_pod, training
        self._settings, self._resources, self._arguments = settings, resources, arguments
        self._timeouts, self._prefix = timeouts, prefix
        self._selector = f"{objects.RUN_LABEL}={training}"
        self._said = ""
        self._prolonged = 0.0
        self._waited = False
        self._admitted = 0.0  # since when the Job runs, or waits for nodes

    def first_generation(self) -> int:
        """0, or where an earlier try of this step left off: its Job is taken over while it is good."""
        jobs = self._cluster.find(*_JOB, self._selector)
        if not jobs:
            return 0
        last = max(jobs, key=_generation)
        if _failed(last) or "deletionTimestamp" in last["metadata"]:
            return _generation(last) + 1
        self._say(f"an earlier try of this step started Job {last['metadata']['name']}: following it")
        return _generation(last)

    def run(self, generation: int, stopped: threading.Event) -> Failure | None:
        """Runs the workers to their end; returns the failure that a restart may mend.

        Raises:
            PipelineError: the workers cannot be scheduled or started, the Job was deleted, or `stopped` was set.
        """
        jobs = self._cluster.find(*_JOB, self._selector)
        found = next((entry for entry in jobs if _generation(entry) == generation), None)
        name = (found or self._start(generation))["metadata"]["name"]
        ended = threading.Event()
        log = threading.Thread(target=self._follow_chief, args=(f"{name}-0-", ended), daemon=True)
        log.start()
        try:
            return self._watch(name, stopped)
        finally:
            ended.set()
            log.join(0 if stopped.is_set() else 10)

    def _start(self, generation: int) -> Object:
        if self._resources.train_queue:
            queue.require(self._cluster, self._resources.train_queue)
        self.delete_jobs()
        self._cluster.apply(objects.service(self._training, self._step_pod))
        made = objects.job(
            self._training,
            generation,
            self._settings,
            self._resources,
            self._arguments,
            self._step_pod,
            self._timeouts.lease,
        )
        self._cluster.apply(made)
        count = self._settings.workers
        self._say(f"started Job {made['metadata']['name']} with {count} worker{'s' if count > 1 else ''}")
        return made

    def delete_jobs(self) -> None:
        """Deletes all generations' Jobs and waits for their pods to go, so that no old chief writes a checkpoint."""
        for entry in self._cluster.find(*_JOB, self._selector):
            self._cluster.delete(*_JOB, entry["metadata"]["name"])
        until = time.monotonic() + self._timeouts.deletion
        while self._pods() and time.monotonic() < until:
            time.sleep(min(1, self._timeouts.poll))

    def delete(self) -> None:
        """Deletes Jobs and Service without waiting: the run is over, or about to be killed."""
        for entry in self._cluster.find(*_JOB, self._selector):
            self._cluster.delete(*_JOB, entry["metadata"]["name"])
        self._cluster.delete("v1", "Service", self._training)

    def _watch(self, name: str, stopped: threading.Event) -> Failure | None:
        self._admitted = seen = time.monotonic()
        while not stopped.wait(self._timeouts.poll):
            try:
                ended, failure = self._look(name)
            except TransientError as error:
                # The workers do not need the API server, which some clusters lack for minutes while they are upgraded.
                if time.monotonic() - seen > self._timeouts.lease:
                    raise
                self._say(f"{error}; the workers go on meanwhile")
                continue
            if ended:
                return failure
            seen = time.monotonic()
        raise PipelineError("training was told to stop; start the step again to continue from the last checkpoint")

    def _look(self, name: str) -> tuple[bool, Failure | None]:
        """Whether the Job has ended, and the failure if it has failed."""
        found = self._cluster.get(*_JOB, name)
        if found is None:
            raise PipelineError(f"Job {name} was deleted while it ran; start the step again to continue")
        # Not those of a former generation, on a node that is gone.
        pods = [pod for pod in self._pods() if _belongs(pod, found)]
        if condition(found, "Complete"):
            return True, None
        if failed := _failed(found):
            return True, self._diagnose(pods, failed)
        if queue.is_waiting(found):
            self._say(queue.why(self._cluster, found))
            self._admitted, self._waited = time.monotonic(), True
            # Kueue takes the start time away. Without it a Job that is resumed is past its deadline at once.
            self._prolong(found)
            return False, None
        if self._waited:  # the deadline counts anew
            self._waited, self._prolonged = False, 0.0
        if any(map(_is_lost, pods)):  # the Job itself would wait for its end
            failure = self._diagnose(pods, found)
            self._cluster.delete(*_JOB, name)
            return True, failure
        self._prolong(found)
        self._check_start(name, pods, time.monotonic() - self._admitted)
        return False, None

    def _prolong(self, found: Object) -> None:
        """Moves the Job's deadline on, ten times a lease.

        Nobody tells this process reliably that the run is terminated: KFP's launcher, its parent, dies of SIGTERM at
        once, and the rest of the container is killed a moment later. Workers without a launcher end at the deadline.
        """
        started = found.get("status", {}).get("startTime")
        lease, now = self._timeouts.lease, time.monotonic()
        if not started or (self._prolonged and now - self._prolonged < lease / 10):
            return
        age = time.time() - datetime.fromisoformat(started).timestamp()
        change = {"spec": {"activeDeadlineSeconds": int(max(age, 0) + lease)}}
        self._prolonged = now
        try:
            self._cluster.patch(*_JOB, found["metadata"]["name"], change)
        except PipelineError as error:  # the Job was deleted this moment, which the next look finds; or worth a line
            self._say(str(error))

    def _pods(self) -> list[Object]:
        return self._cluster.find("v1", "Pod", self._selector)

    def _check_start(self, name: str, pods: list[Object], seconds: float) -> None:
        """Says why workers do not start, when that changes; gives up after `Timeouts`."""
        waiting = [found for pod in pods if (found := _waiting_reason(pod))]
        if len(pods) < self._settings.workers and seconds > 10 * self._timeouts.poll:
            waiting.append(("Missing", self._creation_problem(name, len(pods))))
        if not waiting:
            return
        reason, message = waiting[0]
        text = f"{len(waiting)} of {self._settings.workers} workers cannot start: {message}"
        self._say(text)
        broken = reason in CANNOT_START
        if seconds > (self._timeouts.starting if broken else self._timeouts.scheduling):
            raise PipelineError(f"{text}; gave up after {seconds:.0f} s: {self._advice(broken)}")

    def _creation_problem(self, name: str, pods: int) -> str:
        try:
            events = self._cluster.find("v1", "Event", fields=f"involvedObject.name={name}")
        except PipelineError:  # KFP's own service account may not read events
            events = []
        messages = [event["message"] for event in events if event.get("type") == "Warning"]
        return messages[-1] if messages else f"the Job has made only {pods} pods (a quota? kubectl describe job {name})"

    def _advice(self, broken: bool) -> str:
        if broken:
            return "check the image, its pull secret and the secrets that the step names"
        if self._settings.gpus:
            return (
                f"gpus={self._settings.gpus} of {self._settings.accelerator} for each of "
                f"workers={self._settings.workers}: ask for fewer, set gpus=0 for the CPU, or add nodes"
            )
        return f"ask for less than workers={self._settings.workers}, for smaller ones, or add nodes"

    def _diagnose(self, pods: list[Object], failed: Object) -> Failure:
        """Which worker failed first, and why; a mistake of the user, if any worker tells one."""
        ended = sorted((end for pod in pods if (end := _end(pod))), key=lambda end: end[0])
        failures = [self._failure(pod, status, cause) for _, pod, status, cause in ended]
        if told := next((failure for failure in failures if failure.user_error), None):
            return told
        if any(map(_is_preempted, pods)) or failed.get("reason") == "PodFailurePolicy":
            return dataclasses.replace(self._deleted(pods, failed), is_preemption=True)
        return failures[0] if failures else self._deleted(pods, failed)

    def _deleted(self, pods: list[Object], failed: Object) -> Failure:
        """A pod was deleted, and its container has not ended yet; the Job deletes the others after it."""
        deleted = deleted_first(pods)
        if not deleted:
            return Failure("a worker", f"is gone with its pod ({failed.get('message', failed.get('reason', ''))})")
        first, *others = deleted
        why = condition(first, _DISRUPTED) or {}  # preempted, evicted, its node taken away; not kubectl delete
        cause = f"was deleted ({why.get('message') or 'by hand, or with its node'})"
        if not others:
            return self._failure(first, None, cause)
        return Failure("one of pods " + ", ".join(pod["metadata"]["name"] for pod in (first, *others)), cause)

    def _failure(self, pod: Object, status: int | None, cause: str) -> Failure:
        name = pod["metadata"]["name"]
        lines = self._cluster.log(name, objects.CONTAINER, TAIL_LINES) or ["(its log is gone)"]
        if cause == "OOMKilled":
            limit = pod["spec"]["containers"][0].get("resources", {}).get("limits", {}).get("memory", "of its node")
            cause = f"was killed for using more memory than its limit {limit}: {self._settings.less_memory()}"
        return Failure(f"pod {name}", cause, status, tuple(lines))

    def _follow_chief(self, prefix: str, ended: threading.Event) -> None:
        """Prints the chief's log as it grows, over dropped connections, until it has ended and all was read."""
        last, final = "", False
        while not final:
            final = ended.is_set()
            for pod in self._named(prefix):
                for timestamp, line in self._cluster.follow_log(pod, objects.CONTAINER, last):
                    print(f"{self._prefix}{line}", flush=True)
                    last = timestamp
            ended.wait(min(1, self._timeouts.poll))

    def _named(self, prefix: str) -> list[str]:
        try:
            names = [entry["metadata"]["name"] for entry in self._pods()]
        except TransientError:  # _watch says so
            return []
        return [name for name in names if name.startswith(prefix)]

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            print(f"{self._prefix}{text}", flush=True)


def _generation(found: Object) -> int:
    return int(found["metadata"]["labels"][objects.GENERATION_LABEL])


def _failed(found: Object) -> Object | None:
    # FailureTarget comes at once; Failed only when all pods are gone, which those of a lost node never are.
    return condition(found, "FailureTarget") or condition(found, "Failed")


def _belongs(pod: Object, job: Object) -> bool:
    return any(owner["uid"] == job["metadata"]["uid"] for owner in pod["metadata"].get("ownerReferences", []))


def _is_preempted(pod: Object) -> bool:
    return (condition(pod, _DISRUPTED) or {}).get("reason") in _PREEMPTED


def _is_lost(pod: Object) -> bool:
    """Whether the cluster has taken the pod away, or it should have been gone for long: its node may never say so."""
    until = pod["metadata"].get("deletionTimestamp")
    if not until or pod.get("status", {}).get("phase") == "Succeeded":
        return False
    return bool(condition(pod, _DISRUPTED)) or time.time() > datetime.fromisoformat(until).timestamp() + _LOST_SECONDS


def deleted_first(pods: list[Object]) -> list[Object]:
    """The pod of `pods` that was deleted first; several if it cannot be told which of them.

    The time of a deletion is in whole seconds, and the Job deletes the others within the same one. A reason stands only
    with the one that was taken away by the cluster.
    """
    going = [pod for pod in pods if "deletionTimestamp" in pod["metadata"]]
    if told := [pod for pod in going if condition(pod, _DISRUPTED)]:
        going = told
    earliest = min((pod["metadata"]["deletionTimestamp"] for pod in going), default="")
    return [pod for pod in going if pod["metadata"]["deletionTimestamp"] == earliest]


def _waiting_reason(pod: Object) -> tuple[str, str] | None:
    """(reason, message) if a pod waits for a node or its container cannot be made."""
    status = pod.get("status", {})
    if status.get("phase") != "Pending":
        return None
    for entry in status.get("conditions") or []:
        if entry["type"] == "PodScheduled" and entry["status"] == "False":
            return entry.get("reason", ""), entry.get("message", "no node takes it")
    for entry in status.get("containerStatuses") or []:
        waiting = entry.get("state", {}).get("waiting", {})
        if waiting.get("reason") in CANNOT_START:
            return waiting["reason"], f"{waiting['reason']}: {waiting.get('message', '')}"
    return None


def _end(pod: Object) -> tuple[str, Object, int | None, str] | None:
    """(time, pod, exit status, cause) of a pod that failed."""
    status = pod.get("status", {})
    for entry in status.get("containerStatuses") or []:
        end = entry.get("state", {}).get("terminated")
        if end and end.get("exitCode"):
            cause = "OOMKilled" if end.get("reason") == "OOMKilled" else describe_status(end["exitCode"])
            return end.get("finishedAt") or "", pod, end["exitCode"], cause
    if status.get("phase") == "Failed":  # evicted, or its node is gone: no container tells anything
        return "", pod, None, f"was lost: {status.get('reason', '')} {status.get('message', '')}".strip()
    return None
