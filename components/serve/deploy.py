"""The serve step: puts a classifier into service, tries it with pictures of the test split, or takes it back.

    python -m components.serve.deploy --rollback SERVICE
"""

import re
from dataclasses import dataclass

from components.serve import local, smoke
from components.shared import classifier, dataset, kubernetes, storage
from components.shared.errors import PipelineError

SERVING = ("deployment", "kserve")
# A DNS label, short enough that Kubernetes can append what it appends to the name of a pod.
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(frozen=True)
class Settings:
    """How to deploy; checked when made.

    Attributes:
        serving: one of SERVING.
        service: name of the Kubernetes Service, and of the model in the protocols.
        server_image: the server's image.
        replicas: pods of the version in service.
        canary_percent: share of the traffic for the new version; 0 or 100 for all of it.
    """

    serving: str
    service: str
    server_image: str
    replicas: int
    canary_percent: int

    def __post_init__(self) -> None:
        if self.serving not in SERVING:
            raise PipelineError(f"serving={self.serving} is not possible; there are {', '.join(SERVING)}")
        if not _NAME.fullmatch(self.service):
            raise PipelineError(f"service={self.service} is no name for a Service: a-z, 0-9 and -, at most 40 characters")
        if self.replicas < 1:
            raise PipelineError(f"replicas={self.replicas} is not possible: at least 1")
        if not 0 <= self.canary_percent <= 100:
            raise PipelineError(f"canary_percent={self.canary_percent} is not possible: 0 to 100")


@dataclass(frozen=True)
class Deployment:
    """What is in service now: where, which version (digest of the model), and how the smoke test went."""

    service: str
    version: str
    url: str
    how: str
    result: smoke.SmokeResult

    def __str__(self) -> str:
        return f"{self.service} {self.version[:12]} {self.how}: {self.result}"


def deploy(
    settings: Settings, dataset_dir: str, classifier_dir: str, classifier_uri: str, summary_path: str
) -> Deployment:
    """Deploys the classifier and smoke-tests it; what was in service before stays if the new one fails.

    In a pod it goes to that cluster, with the model read from `classifier_uri`; elsewhere the real server is started,
    tried and stopped.

    Raises:
        PipelineError: the classifier is incomplete, or the new version does not start or answers wrongly.
    """
    engine = "litert"
    version = classifier.digest(classifier_dir, engine)
    examples = smoke.choose_pictures(dataset_dir)
    accuracy = classifier.read_card(classifier_dir).get("metrics", {}).get("validation_accuracy")
    if kubernetes.in_cluster():
        raise PipelineError("the cluster comes next")
    result = local.try_server(classifier_dir, settings.service, version, examples, accuracy)
    command = f"python pipeline.py serve --model {classifier_dir}"
    deployment = Deployment(settings.service, version, "", f"tried locally and stopped; start it with {command}", result)
    storage.write_bytes(summary_path, _summary(deployment, dataset.load(dataset_dir)).encode())
    return deployment


def _summary(deployment: Deployment, data: dataset.DatasetInfo) -> str:
    result = deployment.result
    rows = {
        "Service": deployment.service,
        "Version": deployment.version[:12],
        "Where": deployment.url or deployment.how,
        "Smoke test": str(result),
        "Classes": str(len(data.labels)),
        "Data snapshot": data.snapshot[:12],
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"# {deployment.service} is in service\n\n| | |\n|---|---|\n{table}\n"
