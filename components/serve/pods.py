"""Why the pods of a version do not become ready."""

from components.serve.objects import CONTAINER
from components.shared.kubernetes import CANNOT_START, Cluster, ClusterError, Object, condition

# The store may not answer once; a server that ended so often will not start.
_CRASHES = 3


def living(pods: list[Object]) -> list[Object]:
    """Those that are not evicted, finished or about to go."""
    return [
        pod
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"]
        and pod.get("status", {}).get("phase") not in ("Failed", "Succeeded")
    ]


def is_ready(pod: Object) -> bool:
    """Whether it gets traffic."""
    return condition(pod, "Ready") is not None


def permanent_failure(cluster: Cluster, pods: list[Object], container: str = CONTAINER) -> str | None:
    """The reason why waiting is in vain, if there is one: the server crashes again and again."""
    for pod in living(pods):
        for status in pod.get("status", {}).get("containerStatuses") or []:
            if status["name"] == container and status.get("restartCount", 0) >= _CRASHES and not status.get("ready"):
                return f"pod {pod['metadata']['name']} keeps crashing: {_death(cluster, pod, status)}"
    return None


def waiting_for(
    cluster: Cluster, pods: list[Object], owner: Object | None = None, container: str = CONTAINER
) -> tuple[str, bool]:
    """What the pods wait for, in a line, and whether it is the image or a Secret that cannot be had.

    Args:
        owner: their Deployment, which knows why there are no pods.
    """
    pods = living(pods)
    for pod in pods:
        for status in pod.get("status", {}).get("containerStatuses") or []:
            waiting = status.get("state", {}).get("waiting") or {}
            if waiting.get("reason") in CANNOT_START:
                return f"{waiting['reason']}: {waiting.get('message', '')}", True
        for entry in pod.get("status", {}).get("conditions") or []:
            if entry["type"] == "PodScheduled" and entry["status"] == "False":
                return f"no node takes pod {pod['metadata']['name']}: {entry.get('message', '')}", False
    waiting = [pod for pod in pods if not is_ready(pod)]
    if not waiting:
        refused = condition(owner or {}, "ReplicaFailure")
        return f"there is no pod yet{': ' + refused['message'] if refused else ''}", False
    name = waiting[0]["metadata"]["name"]
    printed = _printed(cluster, waiting[0], container)
    # A server that is well prints too: only its errors say why, else what the kubelet has to say of it.
    words = _error(printed) or last_event(cluster, name)
    return f"pod {name} is not ready: {words or ('it does not answer yet' if printed else 'it printed nothing')}", False


def last_event(cluster: Cluster, name: str) -> str:
    """The newest warning about an object: a volume that cannot be mounted, a probe that fails; "" if there is none."""
    try:
        events = cluster.find("v1", "Event", fields=f"involvedObject.name={name},type=Warning")
    except ClusterError:
        return ""
    events.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    return f"{events[-1].get('reason', '')}: {events[-1].get('message', '')}" if events else ""


def _death(cluster: Cluster, pod: Object, status: Object) -> str:
    """What a container said and how it ended last."""
    ended = status.get("lastState", {}).get("terminated") or status.get("state", {}).get("terminated") or {}
    if ended.get("reason") == "OOMKilled":
        return "it needs more memory than its limit (OOMKilled)"
    printed = _printed(cluster, pod, status["name"])
    words = _error(printed) or (printed or ["it printed nothing"])[-1]
    return words if "exitCode" not in ended else f"{words} (exit status {ended['exitCode']})"


def _printed(cluster: Cluster, pod: Object, container: str) -> list[str]:
    name = pod["metadata"]["name"]
    # One that has just been started again has said nothing yet; what it said before is of interest.
    return cluster.log(name, container, 20) or cluster.log(name, container, 20, previous=True)


def _error(lines: list[str]) -> str:
    errors = [line for line in lines if line.startswith("error: ")]
    return errors[-1].removeprefix("error: ") if errors else ""
