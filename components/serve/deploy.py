"""The serve step: puts a classifier into service, tries it with pictures of the test split, or takes it back.

python -m components.serve.deploy --rollback SERVICE
"""

import argparse
from dataclasses import dataclass
from urllib.parse import urlsplit

from components.serve import local, objects, smoke
from components.serve.deployment import SERVING, Settings
from components.serve.kserve import KServe
from components.serve.rollout import Patience, Rollout, Smoke
from components.shared import classifier, dataset, kubernetes, storage, storage_settings
from components.shared.errors import PipelineError, reported

_KINDS = {"deployment": Rollout, "kserve": KServe}


@dataclass(frozen=True)
class Deployment:
    """What is in service now: its version, where it is and with what share of the traffic, how the smoke test went."""

    service: str
    version: str
    where: str
    result: smoke.SmokeResult

    def __str__(self) -> str:
        return f"{self.service} {self.version} on {self.where}: {self.result}"


def deploy(
    settings: Settings, dataset_dir: str, classifier_dir: str, classifier_uri: str, summary_path: str
) -> Deployment:
    """Deploys the classifier and smoke-tests it; what was in service before stays if the new one fails.

    In a pod it goes to that cluster, with the model read from `classifier_uri`; elsewhere the real server is started,
    tried and stopped.

    Raises:
        PipelineError: the classifier is incomplete, or the new version does not start or answers wrongly.
    """
    digest = classifier.digest(classifier_dir)
    examples = smoke.choose_pictures(dataset_dir)
    accuracy = classifier.read_card(classifier_dir).get("metrics", {}).get("validation_accuracy")
    if kubernetes.in_step():
        model = objects.Model(classifier_uri, digest)
        deployment = _deploy_to_cluster(settings, model, lambda url: smoke.smoke_test(url, examples, digest, accuracy))
    else:
        result = local.try_server(classifier_dir, settings.service, digest, examples, accuracy)
        where = f"this machine: tried and stopped; `python pipeline.py serve --model {classifier_dir}` starts it"
        deployment = Deployment(settings.service, digest[:10], where, result)
    storage.write_bytes(summary_path, _summary(deployment, digest, dataset.load(dataset_dir)).encode())
    return deployment


def rollback(serving: str, service: str, patience: Patience = Patience()) -> str:
    """Puts the previous version of `service` back into service; returns what was done. Raises PipelineError."""
    cluster = kubernetes.connect()
    now, before = _KINDS[serving](cluster, service, patience).rollback()
    return f"{service} serves {now} again, instead of {before}"


def _deploy_to_cluster(
    settings: Settings, model: objects.Model, try_server: Smoke, patience: Patience = Patience()
) -> Deployment:
    if storage.local_path(model.uri) is not None:
        raise PipelineError(f"the model is at {model.uri}, which no other pod can read: set a pipeline root in a store")
    cluster = kubernetes.connect()
    environment = storage_settings.pod_environment(urlsplit(model.uri).scheme)
    around = objects.surroundings(cluster.own_pod(), environment, _has_own_account(cluster))
    rollout = _KINDS[settings.serving](cluster, settings.service, patience)
    image, replicas, percent = settings.server_image, settings.replicas, settings.canary_percent
    version, share, result = rollout.deploy(model, image, replicas, percent, around, try_server)
    where = f"http://{settings.service}.{cluster.namespace}.svc, with {share}"
    return Deployment(settings.service, version, where, result)


def _has_own_account(cluster: kubernetes.Cluster) -> bool:
    try:
        return cluster.get("v1", "ServiceAccount", objects.SERVICE_ACCOUNT) is not None
    except kubernetes.ClusterError:
        return False  # manifests/base/rbac was not applied, so neither was the account


def _summary(deployment: Deployment, digest: str, data: dataset.DatasetInfo) -> str:
    rows = {
        "Version": f"{deployment.version} (model {digest[:12]})",
        "Where": deployment.where,
        "Smoke test": str(deployment.result),
        "Classes": str(len(data.labels)),
        "Data snapshot": data.snapshot[:12],
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"# {deployment.service} passed its smoke test\n\n| | |\n|---|---|\n{table}\n"


def main(arguments: list[str] | None = None) -> None:
    """python -m components.serve.deploy --rollback SERVICE"""
    parser = argparse.ArgumentParser(prog="python -m components.serve.deploy", description=rollback.__doc__)
    parser.add_argument("--rollback", metavar="SERVICE", required=True, help="name of the service")
    parser.add_argument("--serving", choices=SERVING, default=SERVING[0], help="how it was deployed (%(default)s)")
    options = parser.parse_args(arguments)
    with reported():
        print(rollback(options.serving, options.rollback))


if __name__ == "__main__":
    main()
