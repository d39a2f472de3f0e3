"""Training workers as Kubernetes objects: one Indexed Job and one headless Service.

Why so, and not with a retry policy of the Job: TensorFlow's collectives do not survive the loss of a worker, so a
worker that the Job replaced alone would be refused by the others. A Job of `backoffLimit: 0` fails as a whole with its
first pod, which the launcher sees and answers with a new Job (the next generation) under other host names: no pod of
the old generation can join the new one. `podFailurePolicy` makes the Job say that a pod was preempted, which is no
restart of ours; it demands `podReplacementPolicy: Failed`, so that a Job that is resumed waits for its old pods'
checkpoints. The pods of a node that is gone never end, and such a Job never fails: the launcher looks at the pods too.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from components.shared.kubernetes import STEP_CONTAINER, STEP_VOLUMES, Object, run_reference
from components.train.launcher import queue
from components.train.launcher.resources import Resources
from components.train.settings import Settings

CONTAINER = "worker"
PORT = 2222
RUN_LABEL = "museum-classifier/training"
GENERATION_LABEL = "museum-classifier/generation"
SHARED_MEMORY = "1Gi"  # it counts as memory of the container as far as it is used
GRACE_SECONDS = 60  # to write a checkpoint between SIGTERM and SIGKILL
# So long the workers go on with nobody watching. KFP's retries of a step pause for up to two minutes, and its new pod
# may have to fetch the image first.
LEASE_SECONDS = 900
_LABELS = {"app.kubernetes.io/name": "museum-classifier", "app.kubernetes.io/component": "train-worker"}
_INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
# On the step's pod, by options of compile: KFP has no field for them, so they are for the workers alone.
SCHEDULER_ANNOTATION = "museum-classifier/worker-scheduler"
PRIORITY_ANNOTATION = "museum-classifier/worker-priority-class"
# Copied from the step's pod, so that a worker runs where and as the step runs.
_POD_FIELDS = (
    "serviceAccountName",
    "imagePullSecrets",
    "nodeSelector",
    "affinity",
    "priorityClassName",
    "runtimeClassName",
    "schedulerName",
    "hostAliases",
    "hostUsers",
    "dnsPolicy",
    "dnsConfig",
    "enableServiceLinks",
    "automountServiceAccountToken",
)
_CONTAINER_FIELDS = ("image", "imagePullPolicy", "envFrom")
_STEP_VARIABLES = re.compile(r"ARGO_|KFP_")
_LOST_NODE = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_LOST_NODE_SECONDS = 60  # Kubernetes waits five minutes by default before it gives up on a node


def training_id(classifier_uri: str, model: str) -> str:
    """A name for one model's training in one run: the same for every retry of the step, at most 40 characters."""
    slug = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")[:20].strip("-")
    return f"train-{slug}-{hashlib.sha256(f'{classifier_uri} {model}'.encode()).hexdigest()[:10]}"


def job_name(training: str, generation: int, step_pod: Object) -> str:
    """The Job of one generation; `<job>-<index>` is a pod's host name, so it must stay well under 63 characters.

    The step's pod is in it: a retry that finds no Job begins anew with generation 0, and on a lost node pods of the
    first try may still be running under that try's names.
    """
    return f"{training}-{generation}-{hashlib.sha256(step_pod['metadata']['uid'].encode()).hexdigest()[:5]}"


def service(training: str, step_pod: Object) -> Object:
    """The headless Service that gives the workers of all generations their host names."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(training, {RUN_LABEL: training}, step_pod),
        "spec": {
            "clusterIP": "None",
            "selector": {RUN_LABEL: training},
            # Workers look each other up while they start; without this only a ready pod has a name.
            "publishNotReadyAddresses": True,
            "ports": [{"name": "grpc", "port": PORT, "targetPort": PORT}],
        },
    }


def job(
    training: str,
    generation: int,
    settings: Settings,
    resources: Resources,
    arguments: list[str],
    step_pod: Object,
    lease: float = LEASE_SECONDS,
) -> Object:
    """The Indexed Job of one generation: `python -m components.train.worker` with `arguments`, once per worker.

    It ends by itself after `lease` seconds, unless the launcher moves that deadline on.
    """
    labels = {RUN_LABEL: training, GENERATION_LABEL: str(generation)}
    queued = {queue.LABEL: resources.train_queue} if resources.train_queue else {}
    name = job_name(training, generation, step_pod)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(name, labels | queued, step_pod),
        "spec": {
            "completionMode": "Indexed",
            "completions": settings.workers,
            "parallelism": settings.workers,
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
            },
            "activeDeadlineSeconds": int(lease),
            # The launcher deletes the Job; this is for the case that it is gone itself.
            "ttlSecondsAfterFinished": 3600,
            "template": {
                "metadata": {
                    "labels": {**_LABELS, **labels, "sidecar.istio.io/inject": "false"},
                    "annotations": {
                        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
                        # A sidecar would never end, and the Job with it.
                        "sidecar.istio.io/inject": "false",
                    },
                },
                "spec": _pod_spec(training, name, settings, resources, arguments, step_pod),
            },
        },
    }


def tf_config(name: str, training: str, workers: int) -> str:
    """TF_CONFIG of every worker of Job `name`; the kubelet puts each one's index for $(WORKER_INDEX)."""
    hosts = ", ".join(f'"{name}-{index}.{training}:{PORT}"' for index in range(workers))
    return f'{{"cluster": {{"worker": [{hosts}]}}, "task": {{"type": "worker", "index": $(WORKER_INDEX)}}}}'


def _metadata(name: str, labels: Mapping[str, str], step_pod: Object) -> Object:
    return {"name": name, "labels": {**_LABELS, **labels}, "ownerReferences": [run_reference(step_pod)]}


def _pod_spec(
    training: str, name: str, settings: Settings, resources: Resources, arguments: list[str], step_pod: Object
) -> Object:  # fmt: skip
    step = step_pod["spec"]
    container = _step_container(step_pod)
    volumes, mounts = _volumes(step, container, settings)
    return {
        **_copied(step, _POD_FIELDS),
        **_scheduling(step_pod),
        "restartPolicy": "Never",
        "subdomain": training,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "tolerations": _tolerations(step.get("tolerations", []), settings),
        "securityContext": {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
            **step.get("securityContext", {}),
        },
        "volumes": volumes,
        "containers": [
            {
                **_copied(container, _CONTAINER_FIELDS),
                "name": CONTAINER,
                "command": ["python", "-m", "components.train.worker"],
                "args": arguments,
                "env": _environment(name, training, settings, container),
                "ports": [{"name": "grpc", "containerPort": PORT}],
                "resources": _resources(container.get("resources", {}), settings, resources),
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": True,
                    **container.get("securityContext", {}),
                },
                "volumeMounts": mounts,
            }
        ],
    }


def _scheduling(step_pod: Object) -> dict[str, str]:
    found = step_pod["metadata"].get("annotations") or {}
    fields = {"schedulerName": SCHEDULER_ANNOTATION, "priorityClassName": PRIORITY_ANNOTATION}
    return {field: found[name] for field, name in fields.items() if name in found}


def _environment(name: str, training: str, settings: Settings, container: Object) -> list[Object]:
    index = {"fieldPath": f"metadata.annotations['{_INDEX_ANNOTATION}']"}
    own: list[Object] = [
        {"name": "WORKER_INDEX", "valueFrom": {"fieldRef": index}},
        {"name": "PYTHONUNBUFFERED", "value": "1"},
    ]
    if settings.workers > 1:
        # After WORKER_INDEX: a variable can name only those before it.
        own.append({"name": "TF_CONFIG", "value": tf_config(name, training, settings.workers)})
    given = {entry["name"] for entry in container.get("env", [])}
    if settings.gpus and "NCCL_DEBUG" not in given:
        own.append({"name": "NCCL_DEBUG", "value": "WARN"})  # says why, where two workers do not find each other
    names = {entry["name"] for entry in own}
    kept = [
        entry
        for entry in container.get("env", [])
        if entry["name"] not in names and not _STEP_VARIABLES.match(entry["name"])
    ]
    return kept + own


def _resources(step: Object, settings: Settings, resources: Resources) -> Object:
    """CPU and memory as asked for, accelerators as the settings say; the rest, such as disk, as the step has."""
    own = ("cpu", "memory", settings.accelerator)
    found = {
        kind: {name: amount for name, amount in step.get(kind, {}).items() if name not in own}
        | resources.container().get(kind, {})
        | ({settings.accelerator: str(settings.gpus)} if settings.gpus else {})
        for kind in ("requests", "limits")
    }
    return {kind: amounts for kind, amounts in found.items() if amounts}


def _tolerations(step: list[Object], settings: Settings) -> list[Object]:
    kept = [entry for entry in step if entry.get("key") not in _LOST_NODE]
    if settings.gpus and not any(entry.get("key") == settings.accelerator for entry in kept):
        # GPU nodes usually carry this taint; where the ExtendedResourceToleration admission runs, it adds the same.
        kept.append({"key": settings.accelerator, "operator": "Exists", "effect": "NoSchedule"})
    return kept + [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _LOST_NODE_SECONDS}
        for key in _LOST_NODE
    ]


def _volumes(step: Object, container: Object, settings: Settings) -> tuple[list[Object], list[Object]]:
    """Volumes and mounts with what the user gave the step (secrets, certificates, claims), and a /tmp to write to.

    Several GPUs of one pod exchange gradients in shared memory, of which a container has 64 MiB by default.
    """
    mounts = [mount for mount in container.get("volumeMounts", []) if not STEP_VOLUMES.match(mount["name"])]
    wanted = {mount["name"] for mount in mounts}
    volumes = [volume for volume in step.get("volumes", []) if volume["name"] in wanted]
    if not any(mount["mountPath"] == "/tmp" for mount in mounts):
        volumes.append({"name": "worker-tmp", "emptyDir": {}})
        mounts.append({"name": "worker-tmp", "mountPath": "/tmp"})
    if settings.gpus > 1 and not any(mount["mountPath"] == "/dev/shm" for mount in mounts):
        volumes.append({"name": "worker-shm", "emptyDir": {"medium": "Memory", "sizeLimit": SHARED_MEMORY}})
        mounts.append({"name": "worker-shm", "mountPath": "/dev/shm"})
    return volumes, mounts


def _step_container(step_pod: Object) -> Object:
    containers = step_pod["spec"]["containers"]
    return next((entry for entry in containers if entry["name"] == STEP_CONTAINER), containers[0])


def _copied(source: Object, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: source[name] for name in names if name in source}
