"""serving=kserve: the same server as a custom predictor of an InferenceService; KServe moves the traffic.

https://kserve.github.io/website/docs/model-serving/predictive-inference/frameworks/custom-predictor
"""

import json
import time

from components.serve import objects, pods
from components.serve.objects import (
    DIGEST_ANNOTATION,
    LABELS,
    PREVIOUS_ANNOTATION,
    SERVICE_LABEL,
    URI_ANNOTATION,
    Model,
    Surroundings,
)
from components.serve.rollout import Patience, RolloutError, Smoke
from components.serve.smoke import SmokeResult
from components.shared.errors import PipelineError
from components.shared.kubernetes import FIELD_MANAGER, Cluster, Object, condition

KIND = ("serving.kserve.io/v1beta1", "InferenceService")
# KServe finds the predictor's container by this name.
CONTAINER = "kserve-container"
TAG_ANNOTATION = "serving.kserve.io/enable-tag-routing"


def inference_service(
    service: str, model: Model, image: str, replicas: int, canary_percent: int, around: Surroundings, previous: str
) -> Object:
    """The InferenceService; `previous` (JSON) is the predictor before, for the way back."""
    selector = {SERVICE_LABEL: service}
    predictor = {**objects.pod_spec(service, model, image, around, selector), "minReplicas": replicas}
    predictor["maxReplicas"] = replicas * objects.MAX_SCALE
    predictor["containers"] = [objects.container(service, model, image, around, CONTAINER)]
    if 0 < canary_percent < 100:
        predictor["canaryTrafficPercent"] = canary_percent
    return _with_predictor(service, predictor, previous, {URI_ANNOTATION: model.uri, DIGEST_ANNOTATION: model.digest})


class KServe:
    """One InferenceService."""

    def __init__(self, cluster: Cluster, service: str, patience: Patience = Patience()) -> None:
        self._cluster, self._service, self._patience = cluster, service, patience

    def deploy(
        self, model: Model, image: str, replicas: int, canary_percent: int, around: Surroundings, smoke: Smoke
    ) -> tuple[str, str, SmokeResult]:
        """Deploys a version: as Rollout.deploy. KServe keeps the former revision in service until this is ready."""
        version, before = objects.version_of(model, image), self._cluster.get(*KIND, self._service)
        former = json.dumps(before["spec"]["predictor"], sort_keys=True) if before else ""
        canary = canary_percent if before else 0
        self._cluster.apply(inference_service(self._service, model, image, replicas, canary, around, former))
        try:
            result = smoke(self._wait_until_ready())
        except PipelineError as error:
            self._restore(before)
            raise RolloutError(f"version {version} was taken back: {error}") from error
        return version, f"{canary}% of the traffic" if 0 < canary < 100 else "all of the traffic", result

    def rollback(self) -> tuple[str, str]:
        """Applies the predictor before; returns (its model's URI, the URI that was). Raises RolloutError."""
        live = self._cluster.get(*KIND, self._service)
        former = live["metadata"].get("annotations", {}).get(PREVIOUS_ANNOTATION) if live else None
        if not former:
            raise RolloutError(f"InferenceService {self._service} has no previous version to go back to")
        now = json.dumps(live["spec"]["predictor"], sort_keys=True)
        predictor = json.loads(former)
        self._cluster.apply(_with_predictor(self._service, predictor, now, {}))
        self._wait_until_ready()
        return _model_uri(predictor), _model_uri(live["spec"]["predictor"])

    def _restore(self, before: Object | None) -> None:
        if before is None:
            self._cluster.delete(*KIND, self._service)
            return
        annotations = {
            name: text
            for name, text in before["metadata"].get("annotations", {}).items()
            if name.startswith("museum-classifier/")
        }
        previous = annotations.pop(PREVIOUS_ANNOTATION, "")
        self._cluster.apply(_with_predictor(self._service, before["spec"]["predictor"], previous, annotations))

    def _wait_until_ready(self) -> str:
        """The address inside the cluster, when the newest form is ready. Raises RolloutError."""
        started = time.monotonic()
        while True:
            live = self._cluster.get(*KIND, self._service) or {"metadata": {"generation": 0}}
            status = live.get("status", {})
            current = status.get("observedGeneration", 0) >= live["metadata"]["generation"]
            if current and condition(live, "Ready") and status.get("address"):
                return _newest_url(status)
            found = self._cluster.find("v1", "Pod", f"serving.kserve.io/inferenceservice={self._service}")
            if reason := pods.hopeless(self._cluster, found, CONTAINER):
                raise RolloutError(reason)
            if time.monotonic() - started > self._patience.ready:
                raise RolloutError(f"InferenceService {self._service} is not ready: {_why(live)}")
            time.sleep(self._patience.poll)


def _newest_url(status: Object) -> str:
    """Where only the newest revision answers, if KServe gave it an address of its own; or else the common one."""
    traffic = status.get("components", {}).get("predictor", {}).get("traffic") or []
    tagged = [part["url"] for part in traffic if part.get("latestRevision") and part.get("url")]
    return (tagged or [status["address"]["url"]])[0]


def _with_predictor(service: str, predictor: Object, previous: str, annotations: dict[str, str]) -> Object:
    return {
        "apiVersion": KIND[0],
        "kind": KIND[1],
        "metadata": {
            "name": service,
            "labels": {**LABELS, SERVICE_LABEL: service, "app.kubernetes.io/managed-by": FIELD_MANAGER},
            # Gives each revision an address of its own, so that a canary is tried and not the version beside it.
            "annotations": {TAG_ANNOTATION: "true", **annotations, PREVIOUS_ANNOTATION: previous},
        },
        "spec": {"predictor": predictor},
    }


def _model_uri(predictor: Object) -> str:
    arguments = predictor["containers"][0]["args"]
    return arguments[arguments.index("--model") + 1]


def _why(live: Object) -> str:
    for entry in live.get("status", {}).get("conditions") or []:
        if entry["status"] == "False":
            return f"{entry['type']}: {entry.get('message') or entry.get('reason', '')}"
    return "KServe's controller says nothing (is KServe installed?)"
