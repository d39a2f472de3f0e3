"""Why the pods of a version do not become ready."""

from components.serve.objects import CONTAINER
from components.shared.kubernetes import Cluster, Object

_NO_IMAGE = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
)
# The store may not answer once; a server that ended so often will not start.
_CRASHES = 3


def hopeless(cluster: Cluster, pods: list[Object], container: str = CONTAINER) -> str | None:
    """The reason why waiting is in vain, if there is one: the server crashes again and again."""
    for pod in pods:
        for status in pod.get("status", {}).get("containerStatuses") or []:
            if status["name"] == container and status.get("restartCount", 0) >= _CRASHES and not status.get("ready"):
                return f"pod {pod['metadata']['name']} keeps crashing: {_last_words(cluster, pod, container)}"
    return None


def trouble(cluster: Cluster, pods: list[Object], container: str = CONTAINER) -> tuple[str, bool]:
    """What the pods wait for, in a line, and whether it is the image or a Secret that cannot be had."""
    for pod in pods:
        for status in pod.get("status", {}).get("containerStatuses") or []:
            waiting = status.get("state", {}).get("waiting") or {}
            if waiting.get("reason") in _NO_IMAGE:
                return f"{waiting['reason']}: {waiting.get('message', '')}", True
        for condition in pod.get("status", {}).get("conditions") or []:
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                return f"no node takes pod {pod['metadata']['name']}: {condition.get('message', '')}", False
    if not pods:
        return "there is no pod yet (a quota? kubectl describe the ReplicaSet)", False
    return f"pod {pods[0]['metadata']['name']} is not ready: {_last_words(cluster, pods[0], container)}", False


def _last_words(cluster: Cluster, pod: Object, container: str) -> str:
    lines = cluster.log(pod["metadata"]["name"], container, 20)
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or ["it printed nothing"])[-1].removeprefix("error: ")
