"""The Kubernetes objects of a served model, as dictionaries: a Deployment and a Service for each version, and what
stands before them: the Service that people call, an autoscaler and a disruption budget.
"""

import hashlib
import os
import re
import time
from dataclasses import dataclass
from typing import Any

from components.artifacts import signature
from components.artifacts.service import (
    CANARY_ANNOTATION,
    CREATED_ANNOTATION,
    DIGEST_ANNOTATION,
    MAIN_ANNOTATION,
    MINIMUM_ANNOTATION,
    PODS_ANNOTATION,
    PREFIX,
    PREVIOUS_ANNOTATION,
    RUN_ANNOTATION,
    SERVICE_LABEL,
    SINCE_ANNOTATION,
    URI_ANNOTATION,
    VERSION_LABEL,
)
from components.shared.kubernetes import FIELD_MANAGER, STEP_CONTAINER, STEP_VOLUMES, Object

PORT = 8080
CONTAINER = "server"
LABELS = {"app.kubernetes.io/name": "museum-classifier", "app.kubernetes.io/component": "server"}
# With it the pod of the server reads the model; without it (manifests/base/serving was not applied) the step's own.
SERVICE_ACCOUNT = "museum-classifier-server"
# Endpoints learn of a stopping pod a moment later than the pod itself: it goes on serving meanwhile.
DRAIN_SECONDS = 8
GRACE_SECONDS = 60
MAX_SCALE = 4
# Of the CPU asked for. Beyond it a pod lives on CPU that its neighbours leave idle, so that is when another one comes.
SCALE_AT_PERCENT = 80
_RESOURCES = {
    # Half a CPU, so that the old and the new version fit beside each other, and beside KFP, on two nodes of two CPUs.
    "requests": {"cpu": "500m", "memory": "384Mi", "ephemeral-storage": "512Mi"},
    # The server starts a worker for each CPU of its limit; more pods rather than larger ones are what scales.
    "limits": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "4Gi"},
}
# All that the restricted Pod Security Standard asks for, on the container: Knative takes nothing of it on the pod.
RESTRICTED = {
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
# How the step reaches the store, and how it gets through a proxy: the server must do the same.
_ENVIRONMENT = re.compile(
    r"(AWS|S3|MINIO|GOOGLE|GS|STORAGE)_\w+|CLOUDSDK_\w+|SSL_CERT_\w+|REQUESTS_CA_BUNDLE|(https?|no)_proxy",
    re.I,
)
# Not these: the cloud puts them into each pod, for the account of that pod, and the files that they name as well.
_IDENTITY = (
    *("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_SESSION_NAME"),
    *("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
)
# KFP puts it on every pod of a run.
_RUN_LABEL = "pipeline/runid"
_POD_FIELDS = ("imagePullSecrets", "schedulerName", "dnsPolicy", "dnsConfig", "hostAliases", "runtimeClassName")


@dataclass(frozen=True)
class Model:
    """What is served: the URI that the server loads, the digest that it must have, and, for its page, the share of the
    test split that it had right."""

    uri: str
    digest: str
    accuracy: float | None = None


@dataclass(frozen=True)
class Inherited:
    """What a server's pod takes over from the step's pod.

    Attributes:
        environment: variables with which the store is reached, as in a pod's spec.
        volumes, mounts: secrets and certificates that these name.
        pod: fields of the pod's spec: pull secrets, DNS.
        pull_policy: when the image is pulled; empty for Kubernetes' own rule.
        run: id of the KFP run of the step; empty if it is in none.
        created: when that run was created, as ISO 8601.
        service_account: name of the pod's account.
    """

    environment: list[Object]
    volumes: list[Object]
    mounts: list[Object]
    pod: dict[str, Any]
    service_account: str
    pull_policy: str = ""
    run: str = ""
    created: str = ""


@dataclass(frozen=True)
class Versions:
    """What the Service that people call says of itself.

    Attributes:
        main: the version in service; empty if there is none.
        previous: what a rollback goes back to; empty if there is none.
        canary: the version that has a share of the traffic beside `main`; empty if there is none.
        since: when `main` came into service, as ISO 8601; empty if that was not noted.
        created: when the newest run that deployed here was created, as ISO 8601; empty if that was not noted.
        minimum: pods that were asked for.
        pods: pods that `main` has, or had before the canary came.
        revision: kubernetes.revision of the Service that says so; empty if there is none.
    """

    main: str = ""
    previous: str = ""
    canary: str = ""
    since: str = ""
    created: str = ""
    minimum: int = 0
    pods: int = 0
    revision: str = ""


def inherited(step_pod: Object, environment: list[Object], own_account: bool) -> Inherited:
    """What the server takes over from the pod of the step; `environment` is added to it."""
    spec = step_pod["spec"]
    step = next((entry for entry in spec["containers"] if entry["name"] == STEP_CONTAINER), spec["containers"][0])
    # Variables of an optional Secret that does not exist are in the pod's spec all the same, and have no value.
    absent = {entry["name"] for entry in environment if not os.environ.get(entry["name"])}
    variables = [entry for entry in step.get("env", []) if entry["name"] not in {*_IDENTITY, *absent}]
    kept = [entry for entry in variables if _ENVIRONMENT.fullmatch(entry["name"])]
    given = {entry["name"] for entry in kept}
    # Only what the step's own container mounts: Argo's, for its sidecar, name Secrets that a server does not need.
    mounted = {mount["name"] for mount in step.get("volumeMounts", []) if not STEP_VOLUMES.match(mount["name"])}
    given_volumes = [entry for entry in spec.get("volumes", []) if entry["name"] in mounted]
    volumes = [entry for entry in given_volumes if "secret" in entry or "configMap" in entry]
    names = {entry["name"] for entry in volumes}
    return Inherited(
        environment=kept + [entry for entry in environment if entry["name"] not in given] + _public_key(variables),
        volumes=volumes,
        mounts=[mount for mount in step.get("volumeMounts", []) if mount["name"] in names],
        pod={name: spec[name] for name in _POD_FIELDS if name in spec},
        service_account=SERVICE_ACCOUNT if own_account else spec.get("serviceAccountName", "default"),
        pull_policy=step.get("imagePullPolicy", ""),
        run=step_pod["metadata"].get("labels", {}).get(_RUN_LABEL, ""),
    )


def version_of(model: Model, image: str) -> str:
    """The model by the name that the server's answers give it, and four characters for its place and its image."""
    return f"{model.digest[:12]}-{hashlib.sha256(f'{model.uri} {image}'.encode()).hexdigest()[:4]}"


def _public_key(variables: list[Object]) -> list[Object]:
    """The public half of the key that signs models, from the Secret that the step's private half is in."""
    secrets = [entry["valueFrom"]["secretKeyRef"] for entry in variables if entry["name"] == signature.PRIVATE_KEY]
    name = signature.PUBLIC_KEY
    source = [{"secretKeyRef": {"name": secret["name"], "key": name, "optional": True}} for secret in secrets]
    return [{"name": name, "valueFrom": each} for each in source]


def deployment(service: str, version: str, model: Model, image: str, replicas: int, inherited: Inherited) -> Object:
    """The pods of one version."""
    selector = _selector(service, version)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": f"{service}-{version}",
            "labels": {**LABELS, **selector, "app.kubernetes.io/managed-by": FIELD_MANAGER},
            "annotations": {
                URI_ANNOTATION: model.uri,
                DIGEST_ANNOTATION: model.digest,
                RUN_ANNOTATION: inherited.run,
                CREATED_ANNOTATION: inherited.created,
            },
        },
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 1,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": selector},
            "template": {
                "metadata": {
                    "labels": {**LABELS, **selector},
                    "annotations": {
                        "prometheus.io/scrape": "true",
                        "prometheus.io/port": str(PORT),
                        "prometheus.io/path": "/metrics",
                    },
                },
                "spec": pod_spec(service, model, image, inherited, selector),
            },
        },
    }


def pod_spec(service: str, model: Model, image: str, inherited: Inherited, selector: dict[str, str]) -> Object:
    """A pod that meets the restricted Pod Security Standard."""
    return {
        **inherited.pod,
        "serviceAccountName": inherited.service_account,
        # It never talks to the cluster's API.
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector},
            }
        ],
        "containers": [container(service, model, image, inherited)],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "3Gi"}}, *inherited.volumes],
    }


def container(service: str, model: Model, image: str, inherited: Inherited, name: str = CONTAINER) -> Object:
    """The server; it is ready only after it has predicted an image, because it answers nothing before."""
    arguments = ["--model", model.uri, "--sha256", model.digest, "--name", service, "--port", str(PORT)]
    if model.accuracy is not None:
        arguments += ["--test-accuracy", f"{model.accuracy:.4f}"]
    return {
        "name": name,
        "image": image,
        **({"imagePullPolicy": inherited.pull_policy} if inherited.pull_policy else {}),
        "command": ["python3", "-m", "components.server"],
        "args": arguments,
        "env": [*inherited.environment, {"name": "PYTHONUNBUFFERED", "value": "1"}],
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "resources": _RESOURCES,
        "securityContext": RESTRICTED,
        # Starting takes a second, and as long as the store takes for the model: up to ten minutes are given.
        "startupProbe": _probe("ready", periodSeconds=2, failureThreshold=300),
        "readinessProbe": _probe("ready", periodSeconds=5, failureThreshold=3),
        "livenessProbe": _probe("live", periodSeconds=10, failureThreshold=6),
        "lifecycle": {"preStop": {"exec": {"command": ["python3", "-c", f"import time; time.sleep({DRAIN_SECONDS})"]}}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *inherited.mounts],
    }


def version_service(service: str, version: str) -> Object:
    """A Service for one version only: the smoke test goes through it, before people do."""
    return _service(f"{service}-{version}", service, _selector(service, version), {})


def public_service(service: str, versions: Versions) -> Object:
    """The Service that people call. The main version gets all the traffic; beside a canary, each its share of pods."""
    notes = {
        MAIN_ANNOTATION: versions.main,
        PREVIOUS_ANNOTATION: versions.previous,
        MINIMUM_ANNOTATION: str(versions.minimum),
        SINCE_ANNOTATION: versions.since,
        CREATED_ANNOTATION: versions.created,
    }
    if versions.canary:
        notes |= {CANARY_ANNOTATION: versions.canary, PODS_ANNOTATION: str(versions.pods)}
    selector = {SERVICE_LABEL: service} if versions.canary else _selector(service, versions.main)
    return _service(service, service, selector, notes)


def reserved_service(service: str) -> Object:
    """The Service that people call before it leads anywhere: who creates it has the name."""
    found = _service(service, service, {}, {})
    del found["spec"]["selector"]
    return found


def now() -> str:
    """The time as Kubernetes writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def again(live: Object) -> Object:
    """An object as the cluster has it, to be applied again: all of its spec, and what we ourselves say about it."""
    metadata = live["metadata"]
    notes = metadata.get("annotations") or {}
    own = {name: text for name, text in notes.items() if name.startswith(PREFIX)}
    return {
        "apiVersion": live["apiVersion"],
        "kind": live["kind"],
        "metadata": {"name": metadata["name"], "labels": metadata.get("labels", {}), "annotations": own},
        "spec": live["spec"],
    }


def autoscaler(service: str, version: str, replicas: int) -> Object:
    """Between `replicas` and four times as many pods."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": f"{service}-{version}"}
    usage = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": SCALE_AT_PERCENT}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _metadata(service, service),
        "spec": {
            "scaleTargetRef": target,
            "minReplicas": replicas,
            "maxReplicas": replicas * MAX_SCALE,
            "metrics": [{"type": "Resource", "resource": usage}],
        },
    }


def disruption_budget(service: str) -> Object:
    """At most one pod at a time goes for a node's maintenance."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(service, service),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {SERVICE_LABEL: service}}},
    }


def _service(name: str, service: str, selector: dict[str, str], annotations: dict[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**_metadata(name, service), "annotations": annotations},
        "spec": {"selector": selector, "ports": [{"name": "http", "port": 80, "targetPort": PORT, "protocol": "TCP"}]},
    }


def _metadata(name: str, service: str) -> Object:
    labels = {**LABELS, SERVICE_LABEL: service, "app.kubernetes.io/managed-by": FIELD_MANAGER}
    return {"name": name, "labels": labels}


def _selector(service: str, version: str) -> dict[str, str]:
    return {SERVICE_LABEL: service, VERSION_LABEL: version}


def _probe(kind: str, **timing: int) -> Object:
    return {"httpGet": {"path": f"/v2/health/{kind}", "port": "http"}, "timeoutSeconds": 5, **timing}
