"""A queue of Kueue in which a training Job waits for room: https://kueue.sigs.k8s.io/docs/tasks/run/jobs/

Kueue suspends a Job that carries a queue's name, and suspends it again when a more important one needs its room. The
Job controller takes a suspended Job's pods away and stops the clock of its deadline.
"""

from components.shared.errors import PipelineError
from components.shared.kubernetes import Cluster, Forbidden, NotThere, Object

LABEL = "kueue.x-k8s.io/queue-name"
_JOB_LABEL = "kueue.x-k8s.io/job-uid"
_VERSIONS = ("kueue.x-k8s.io/v1beta2", "kueue.x-k8s.io/v1beta1")


def require(cluster: Cluster, queue: str) -> None:
    """Raises PipelineError unless the LocalQueue is in the step's namespace; where it may not be looked for, nothing.

    Without a Kueue that knows it the Job would run at once, or never.
    """
    try:
        known = [entry["metadata"]["name"] for entry in _find(cluster, "LocalQueue")]
    except Forbidden as error:
        print(f"cannot look for the queue {queue}: {error}", flush=True)
        return
    except NotThere:
        raise PipelineError(f"train_queue={queue}: this cluster has no Kueue; leave train_queue empty") from None
    if queue not in known:
        there = ", ".join(sorted(known)) or "none"
        raise PipelineError(
            f"train_queue={queue}: namespace {cluster.namespace} has no such LocalQueue; there is {there}"
        )


def is_waiting(job: Object) -> bool:
    """Whether the Job is suspended, by Kueue or by a person."""
    return bool(job["spec"].get("suspend"))


def why(cluster: Cluster, job: Object) -> str:
    """What the Job waits for, in Kueue's words where they can be read."""
    name = job["metadata"]["name"]
    queue = (job["metadata"].get("labels") or {}).get(LABEL)
    if not queue:
        return f"Job {name} is suspended, and goes on when somebody resumes it"
    text = f"Job {name} waits in the queue {queue}"
    try:
        workloads = _find(cluster, "Workload", f"{_JOB_LABEL}={job['metadata']['uid']}")
    except PipelineError:  # no rights, or the API server is away: it is tried again
        return text
    said = [
        entry["message"]
        for workload in workloads
        for entry in workload.get("status", {}).get("conditions") or ()
        if entry.get("message")
        and (entry["type"], entry["status"]) in (("QuotaReserved", "False"), ("Evicted", "True"))
    ]
    return f"{text}: {said[0]}" if said else text


def _find(cluster: Cluster, kind: str, selector: str = "") -> list[Object]:
    for version in _VERSIONS[:-1]:
        try:
            return cluster.find(version, kind, selector)
        except NotThere:
            continue
    return cluster.find(_VERSIONS[-1], kind, selector)
