"""The serve step: puts a classifier into service, tries it with images of the test split, or takes it back."""

import os
from dataclasses import dataclass, replace

from components.artifacts import dataset, predictions, signature
from components.serve import local, objects, smoke
from components.serve.deployment import Settings
from components.serve.kserve import KServe
from components.serve.rollout import Rollout, Smoke, Superseded, Timeouts
from components.serve.services import interruptible
from components.shared import kubernetes
from components.shared.errors import PipelineError
from components.shared.storage import access, storage

_KINDS: dict[str, type[Rollout] | type[KServe]] = {"deployment": Rollout, "kserve": KServe}


@dataclass(frozen=True)
class Deployment:
    """What is in service now: its version, where it is and with what share of the traffic, how the smoke test went.

    `result` is None where a newer run has deployed under that name: `where` says so, and `version` is empty.
    """

    service: str
    version: str
    where: str
    result: smoke.SmokeResult | None

    def __str__(self) -> str:
        if self.result is None:
            return f"{self.service} stays as it is: {self.where}"
        return f"{self.service} {self.version} on {self.where}: {self.result}"


def deploy(settings: Settings, dataset_dir: str, predictions_dir: str, summary_path: str) -> Deployment:
    """Deploys a classifier and smoke-tests it; what was in service before stays if the new one fails.

    `predictions_dir` is what the evaluation wrote: which classifier it is, and its answers, which the server must give.
    In a step of a run on a cluster it goes to that cluster; elsewhere, a notebook's pod included, the real server is
    started, tried and stopped.

    Raises:
        PipelineError: the evaluation is incomplete, or the new version does not start or answers wrongly.
    """
    questions = smoke.choose_questions(dataset_dir, predictions_dir)
    evaluated = predictions.read_reference(predictions_dir)
    model = objects.Model(evaluated["classifier"], evaluated["versions"][0], evaluated["accuracy"])
    digest = model.digest
    if kubernetes.in_step():
        with interruptible("the step was told to stop"):
            deployment = _deploy_to_cluster(settings, model, lambda url: smoke.try_service(url, questions, digest))
    else:
        result = local.try_server(model.uri, settings.name, digest, questions)
        where = f"this machine: tried and stopped; `python pipeline.py serve --model {model.uri}` starts it"
        deployment = Deployment(settings.name, digest[:12], where, result)
    storage.write_bytes(summary_path, _summary(deployment, model, dataset.load(dataset_dir)).encode())
    return deployment


def _deploy_to_cluster(
    settings: Settings, model: objects.Model, try_server: Smoke, timeouts: Timeouts = Timeouts()
) -> Deployment:
    if storage.local_path(model.uri) is not None:
        raise PipelineError(f"the model is at {model.uri}, which no other pod can read: set a pipeline root in a store")
    if key := os.environ.get(signature.PRIVATE_KEY):
        signature.sign(model.uri, key)
    cluster = kubernetes.connect()
    environment = access.pod_environment(model.uri)
    inherited = objects.inherited(cluster.own_pod(), environment, _has_own_account(cluster))
    inherited = replace(inherited, created=settings.run_created)
    rollout = _KINDS[settings.kind](cluster, settings.name, timeouts)
    image, replicas, percent = settings.server_image, settings.replicas, settings.canary_percent
    try:
        version, share, result = rollout.deploy(model, image, replicas, percent, inherited, try_server)
    except Superseded as error:  # as wanted: a newer run's model is in service
        return Deployment(settings.name, "", str(error), None)
    return Deployment(settings.name, version, f"{rollout.public_url}, with {share}", result)


def _has_own_account(cluster: kubernetes.Cluster) -> bool:
    try:
        return cluster.get("v1", "ServiceAccount", objects.SERVICE_ACCOUNT) is not None
    except kubernetes.Forbidden:
        return False  # manifests/base/rbac was not applied, so neither was the account


def _summary(deployment: Deployment, model: objects.Model, data: dataset.DatasetInfo) -> str:
    if deployment.result is None:
        return f"# {deployment.service} was not changed\n\n{deployment.where}. To deploy this model, start a new run.\n"
    rows = {
        "Version": deployment.version,
        "Where": deployment.where,
        "Smoke test": str(deployment.result),
        "Test accuracy": f"{model.accuracy:.3f}",
        "Classes": str(len(data.labels)),
        "Data snapshot": data.snapshot[:12],
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"# {deployment.service} passed its smoke test\n\n| | |\n|---|---|\n{table}\n"
