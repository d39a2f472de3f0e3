"""What one looks at after a rollout; the fixtures `kube`, `servers`, `models` and `put` make one."""

from components.serve import objects, services, smoke
from components.serve.objects import Model
from components.serve.rollout import Timeouts
from components.shared import kubernetes

IMAGE = "registry.example.org/museum/serve@sha256:" + "b" * 64
TIMEOUTS = Timeouts(poll=0.05, image=0.2, ready=60)


def rollback() -> str:
    return services.rollback(kubernetes.connect(), "colours", timeouts=TIMEOUTS)


def served(servers, times: int = 1) -> list[str]:
    """Names of the models that answered to people, one connection after the other."""
    url = f"{servers.url('colours')}/v1/models/colours/metadata"
    return [smoke.get_json(url)["card"]["name"] for _ in range(times)]


def scaled_by_itself(kube, name: str, pods: int) -> None:
    """What an autoscaler does under load."""
    kube.change("Deployment", f"colours-{name}", lambda obj: obj["spec"].update(replicas=pods))
    kube.wait(lambda: kube.one("Deployment", f"colours-{name}")["status"].get("readyReplicas") == pods)


def autoscaler(kube) -> tuple[str, int, int]:
    """(version, fewest pods, most pods)."""
    spec = kube.one("HorizontalPodAutoscaler", "colours")["spec"]
    return spec["scaleTargetRef"]["name"].removeprefix("colours-"), spec["minReplicas"], spec["maxReplicas"]


def version(model: Model, image: str = IMAGE) -> str:
    return objects.version_of(model, image)


def replicas(kube) -> dict[str, int]:
    """Version -> pods that it is to have."""
    found = {entry["metadata"]["name"]: entry["spec"]["replicas"] for entry in kube.all("Deployment")}
    return {name.removeprefix("colours-"): number for name, number in found.items()}


def note(entry: dict) -> dict:
    """What the rollout has noted on an object."""
    return entry["metadata"].get("annotations", {})
