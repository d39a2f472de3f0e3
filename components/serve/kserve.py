"""serve_kind=kserve: the same server as a custom predictor of an InferenceService; KServe moves the traffic.

https://kserve.github.io/website/docs/model-serving/predictive-inference/frameworks/custom-predictor

KServe runs it on Knative or, in raw mode, as a plain Deployment. Its status says that *some* version is ready
(observedGeneration is that of the Knative Service or Deployment), so readiness is looked for in the pods of the version
and in what the server answers.
"""

import json
import time
from urllib.parse import urlsplit

from components.artifacts.service import (
    CREATED_ANNOTATION,
    DIGEST_ANNOTATION,
    KSERVE_KIND,
    PREVIOUS_ANNOTATION,
    RUN_ANNOTATION,
    SERVICE_LABEL,
    SINCE_ANNOTATION,
    URI_ANNOTATION,
    VERSION_LABEL,
)
from components.serve import objects, pods
from components.serve.deployment import SmokeResult
from components.serve.objects import Inherited, Model
from components.serve.rollout import RolloutError, Smoke, Superseded, Timeouts
from components.shared import kubernetes
from components.shared.errors import PipelineError
from components.shared.kubernetes import FIELD_MANAGER, Cluster, Conflict, Object

# KServe finds the predictor's container by this name.
CONTAINER = "kserve-container"
REVISION_LABEL = "serving.knative.dev/revision"
# Not the labels of our own Deployments: their network policy would keep Knative's proxy from the pod.
LABELS = {"app.kubernetes.io/name": "museum-classifier", "app.kubernetes.io/component": "predictor"}
# What Knative takes of a pod with its default settings; anything more and it refuses the whole Service.
_POD_FIELDS = ("imagePullSecrets",)
SPLIT = "canaryTrafficPercent"
# Predictors that stay, to be rolled back to.
HISTORY = 2
_ATTEMPTS = 10


def predictor(service: str, model: Model, image: str, replicas: int, inherited: Inherited) -> Object:
    """The predictor, in a form that Knative's webhook takes and that a plain Deployment can be made of, too."""
    container = objects.container(service, model, image, inherited, CONTAINER)
    # Knative stops pods by itself, through its proxy, and allows no hook. Its port is http1 or h2c, by name.
    del container["lifecycle"]
    container["ports"] = [{"name": "http1", "containerPort": objects.PORT, "protocol": "TCP"}]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        action = container[probe]["httpGet"] | {"port": objects.PORT}
        container[probe] = {**container[probe], "httpGet": action, "successThreshold": 1}
    secrets = {volume["name"] for volume in inherited.volumes}
    mounts = [{**mount, "readOnly": True} if mount["name"] in secrets else mount for mount in container["volumeMounts"]]
    container["volumeMounts"] = mounts
    mounted = {mount["name"] for mount in mounts}
    volumes = [{"name": "tmp", "emptyDir": {"sizeLimit": "3Gi"}}, *inherited.volumes]
    return {
        **{name: inherited.pod[name] for name in _POD_FIELDS if name in inherited.pod},
        "serviceAccountName": inherited.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "minReplicas": replicas,
        "maxReplicas": replicas * objects.MAX_SCALE,
        "containers": [container],
        "volumes": [volume for volume in volumes if volume["name"] in mounted],
    }


def inference_service(service: str, wanted: Object, previous: list[Object]) -> Object:
    """The InferenceService around a predictor; `previous` are those before, for the way back."""
    model, version = model_of(wanted), version_of(wanted)
    labels = {**LABELS, SERVICE_LABEL: service, VERSION_LABEL: version, "app.kubernetes.io/managed-by": FIELD_MANAGER}
    notes = {
        URI_ANNOTATION: model.uri,
        DIGEST_ANNOTATION: model.digest,
        PREVIOUS_ANNOTATION: json.dumps(previous, sort_keys=True),
    }
    return {
        "apiVersion": KSERVE_KIND[0],
        "kind": KSERVE_KIND[1],
        # KServe puts labels and annotations on the pods: that is how those of a version are found.
        "metadata": {"name": service, "labels": labels, "annotations": notes},
        "spec": {"predictor": wanted},
    }


def model_of(predictor: Object) -> Model:
    """The model that a predictor of ours serves."""
    given = predictor["containers"][0]["args"]
    return Model(given[given.index("--model") + 1], given[given.index("--sha256") + 1])


def version_of(predictor: Object) -> str:
    """The version of a predictor of ours: objects.version_of."""
    return objects.version_of(model_of(predictor), predictor["containers"][0]["image"])


class KServe:
    """One InferenceService."""

    def __init__(self, cluster: Cluster, service: str, timeouts: Timeouts = Timeouts()) -> None:
        self._cluster, self._service, self._timeouts = cluster, service, timeouts

    @property
    def public_url(self) -> str:
        """What people of the cluster call."""
        return _common_url(self._live())

    def deploy(
        self, model: Model, image: str, replicas: int, canary_percent: int, inherited: Inherited, smoke: Smoke
    ) -> tuple[str, str, SmokeResult]:
        """Deploys a version: as Rollout.deploy. On Knative it gets no traffic before it was tried."""
        self._check_name()
        wanted = predictor(self._service, model, image, replicas, inherited)
        version, before = version_of(wanted), self._cluster.get(*KSERVE_KIND, self._service)
        canary = canary_percent if before and 0 < canary_percent < 100 else 0
        try:
            former = _previous(before, version)
            self._apply(wanted | _split_until_tried(before, version), former, inherited)
            tried = smoke(self._wait_until_ready(version))
            self._apply(wanted | ({SPLIT: canary} if canary else {}), former, inherited)
            if not canary:
                smoke(self.public_url)
        except Superseded:
            raise
        except BaseException as error:
            self._restore(before)
            if isinstance(error, PipelineError):
                raise RolloutError(f"version {version} was taken back: {error}") from error
            raise
        return version, f"{canary}% of the traffic" if canary else "all of the traffic", tried

    def rollback(self, wanted: str = "") -> tuple[str, str]:
        """Ends the canary, or applies a predictor of before: as Rollout.rollback. Raises RolloutError."""
        live = self._live()
        now, earlier = live["spec"]["predictor"], earlier_predictors(live)
        if not earlier:
            raise RolloutError(f"InferenceService {self._service} has no previous version to go back to")
        goal = next((each for each in earlier if wanted in ("", version_of(each))), None)
        if goal is None:
            known = ", ".join(map(version_of, earlier))
            raise RolloutError(f"{self._service} has no version {wanted} to go back to; there is {known}")
        version, others = version_of(goal), [each for each in earlier if each is not goal]
        try:
            self._apply(goal, others if SPLIT in now else [now, *others][:HISTORY])
            self._wait_until_ready(version)
        except BaseException as error:
            self._restore(live)
            if isinstance(error, PipelineError):
                raise RolloutError(f"version {version} does not start: {error}") from error
            raise
        return version, version_of(now)

    def _check_name(self) -> None:
        found = self._cluster.get("v1", "Service", self._service)
        if found and SERVICE_LABEL in (found["spec"].get("selector") or {}):
            raise RolloutError(f"{self._service} is in service by serve_kind=deployment: choose another serve_name")

    def _apply(self, wanted: Object, previous: list[Object], inherited: Inherited | None = None) -> None:
        """Changes the service; of two runs that deploy here, `inherited` tells which is newer. Raises Superseded."""
        for attempt in range(_ATTEMPTS):
            live = self._live()
            notes = live.get("metadata", {}).get("annotations") or {}
            same = bool(live) and version_of(live["spec"]["predictor"]) == version_of(wanted)
            newest, run = notes.get(CREATED_ANNOTATION, ""), inherited.run if inherited else ""
            if inherited and newest > inherited.created and not same:
                raise Superseded(f"a newer run (of {newest}) has deployed {version_of(live['spec']['predictor'])}")
            manifest = inference_service(self._service, wanted, previous)
            manifest["metadata"]["annotations"] |= {
                RUN_ANNOTATION: run or (notes.get(RUN_ANNOTATION, "") if same else ""),
                SINCE_ANNOTATION: (notes.get(SINCE_ANNOTATION, "") if same else "") or objects.now(),
                CREATED_ANNOTATION: max(newest, inherited.created if inherited else ""),
            }
            try:
                self._cluster.apply(manifest, kubernetes.revision(live) if live else "")
                return
            except Conflict:  # KServe notes its status there as well
                if attempt == _ATTEMPTS - 1:
                    raise

    def _live(self) -> Object:
        return self._cluster.get(*KSERVE_KIND, self._service) or {}

    def _restore(self, before: Object | None) -> None:
        if before is None:
            self._cluster.delete(*KSERVE_KIND, self._service)
        else:
            self._cluster.apply(objects.again(before))

    def _wait_until_ready(self, version: str) -> str:
        """The address inside the cluster of this version, when its pods are ready. Raises RolloutError."""
        started = time.monotonic()
        of_service = f"serving.kserve.io/inferenceservice={self._service}"
        while True:
            found = pods.living(self._cluster.find("v1", "Pod", of_service))
            own = [pod for pod in found if pod["metadata"].get("labels", {}).get(VERSION_LABEL) == version]
            if reason := pods.permanent_failure(self._cluster, own, CONTAINER):
                raise RolloutError(reason)
            live = self._live()
            if url := self._address(live, found, own):
                return url
            if time.monotonic() - started > self._timeouts.ready:
                text = pods.waiting_for(self._cluster, own, container=CONTAINER)[0] if own else self._why(live)
                raise RolloutError(f"InferenceService {self._service} is not ready: {text}")
            time.sleep(self._timeouts.poll)

    def _address(self, live: Object, found: list[Object], own: list[Object]) -> str:
        """Where only the newest of `own` pods answer; "" as long as there is no such place."""
        common = _common_url(live)
        if not common or not own:
            return ""
        revision = max(pod["metadata"]["labels"].get(REVISION_LABEL, "") for pod in own)
        newest = [pod for pod in own if pod["metadata"]["labels"].get(REVISION_LABEL, "") == revision]
        if revision:
            # Knative has a Service for each revision, in the domain of all others.
            domain = urlsplit(common).netloc.partition(".")[2]
            return f"http://{revision}.{domain}" if any(map(pods.is_ready, newest)) else ""
        # Raw mode: a Deployment, which replaces its pods one by one behind one Service.
        return common if len(newest) == len(found) and all(map(pods.is_ready, newest)) else ""

    def _why(self, live: Object) -> str:
        """Why there are no pods: what Knative's webhook refuses stands in an event only."""
        if warning := pods.last_event(self._cluster, self._service):
            return warning
        for entry in live.get("status", {}).get("conditions") or []:
            if entry["status"] == "False":
                return f"{entry['type']}: {entry.get('message') or entry.get('reason', '')}"
        return "KServe's controller says nothing (is KServe installed?)"


def _common_url(live: Object) -> str:
    status = live.get("status", {})
    found = status.get("address") or status.get("components", {}).get("predictor", {}).get("address") or {}
    return (found.get("url") or "").rstrip("/")


def _split_until_tried(before: Object | None, version: str) -> Object:
    """No traffic for a new version. The same one again keeps its share: 0 would send KServe to an older revision."""
    if before is None:
        return {}
    now = before["spec"]["predictor"]
    return {SPLIT: 0} if version_of(now) != version else {name: now[name] for name in (SPLIT,) if name in now}


def earlier_predictors(live: Object) -> list[Object]:
    """The predictors before, the newest first: what a rollback goes to, or beside a canary the one in service."""
    return json.loads((live.get("metadata", {}).get("annotations") or {}).get(PREVIOUS_ANNOTATION) or "[]")


def _previous(before: Object | None, version: str) -> list[Object]:
    """The predictors that a rollback goes to: a canary, or the same version again, leaves them as they are."""
    if before is None:
        return []
    now = before["spec"]["predictor"]
    earlier = earlier_predictors(before)
    return earlier if SPLIT in now or version_of(now) == version else [now, *earlier][:HISTORY]
