"""The pod of a KFP step, as Argo makes it: what the launcher finds when it looks at itself."""

import json
from typing import Any

from tests.fakes.kube_objects import Object

NAME = "museum-classifier-5x7kq-system-container-impl-1234567890"
RUN = "0b54a7f6-0000-4000-8000-00000000000c"
IMAGE = "registry.example.org/museum/train@sha256:" + "a" * 64
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store"}, "stringData": {"key": "the secret key"}}


def step_pod(environment: dict[str, str] | None = None, image: str = IMAGE) -> Object:
    """The step's pod, with `environment` as variables of its main container."""
    empty = ["var-run-argo", "tmp-dir-argo", "kfp-launcher", "gcs-scratch", "s3-scratch", "minio-scratch"]
    token = {"name": "kube-api-access-x2x4z", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
    mounts = [{"name": name, "mountPath": f"/mnt/{name}"} for name in [*empty, "dot-cache-scratch"]]
    # Argo's, where a template is too long for a variable: the ConfigMap is the Workflow's and goes with it.
    mounts.append({"name": "argo-env-config", "mountPath": "/argo/config"})
    workflow = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "name": "museum-classifier-5x7kq",
        "uid": "b7c1d6f0-0000-4000-8000-000000000001",
        "controller": True,
        "blockOwnerDeletion": True,
    }
    main = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/var/run/argo/argoexec", "emissary", "--"],
        "env": [
            {"name": "KFP_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "ARGO_TEMPLATE", "value": "{}"},
            {"name": "AWS_SECRET_ACCESS_KEY", "valueFrom": {"secretKeyRef": {"name": "store", "key": "key"}}},
            *({"name": name, "value": value} for name, value in (environment or {}).items()),
        ],
        "envFrom": [{"configMapRef": {"name": "metadata-grpc-configmap", "optional": True}}],
        "resources": {
            "requests": {"cpu": "2", "memory": "4Gi", "ephemeral-storage": "10Gi"},
            "limits": {"cpu": "4", "memory": "8Gi", "ephemeral-storage": "20Gi"},
        },
        "volumeMounts": [*mounts, {"name": "certificates", "mountPath": "/etc/ssl/museum", "readOnly": True}, token],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": NAME,
            "uid": "b7c1d6f0-0000-4000-8000-000000000002",
            "labels": {"pipeline/runid": RUN},
            "ownerReferences": [workflow],
        },
        "spec": {
            "containers": [{"name": "wait", "image": "quay.io/argoproj/argoexec:v3.7"}, main],
            "initContainers": [{"name": "kfp-launcher", "image": "ghcr.io/kubeflow/kfp-launcher:2.17.0"}],
            "serviceAccountName": "pipeline-runner",
            "imagePullSecrets": [{"name": "registry"}],
            "nodeSelector": {"pool": "train"},
            "tolerations": [
                {"key": "dedicated", "operator": "Equal", "value": "train", "effect": "NoSchedule"},
                {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute", "tolerationSeconds": 300},
            ],
            "restartPolicy": "Never",
            "volumes": [
                *({"name": name, "emptyDir": {}} for name in [*empty, "dot-cache-scratch"]),
                {"name": "argo-env-config", "configMap": {"name": NAME}},
                # Argo's, for its sidecar that keeps logs: mounted nowhere in the step's own container.
                {"name": "mlpipeline-minio-artifact", "secret": {"secretName": "mlpipeline-minio-artifact"}},
                {"name": "certificates", "secret": {"secretName": "museum-ca"}},
                {"name": token["name"], "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
            ],
        },
        "status": {"phase": "Running"},
    }


def workflow(declared: dict[str, Any], given: dict[str, Any]) -> Object:
    """The step's Workflow, as far as it holds the run's parameters: defaults of all, and what the form gave."""
    root = {"inputDefinitions": {"parameters": {name: {"defaultValue": value} for name, value in declared.items()}}}
    driver = {"name": "root-driver", "arguments": {"parameters": [
        {"name": "component", "value": "{{workflow.parameters.components-root}}"},
        {"name": "runtime-config", "value": json.dumps({"parameterValues": given})},
    ]}}  # fmt: skip
    (owner,) = step_pod()["metadata"]["ownerReferences"]
    return {
        "apiVersion": owner["apiVersion"],
        "kind": "Workflow",
        "metadata": {"name": owner["name"]},
        "spec": {
            "arguments": {"parameters": [{"name": "components-root", "value": json.dumps(root)}]},
            "templates": [{"name": "entrypoint", "dag": {"tasks": [driver]}}],
        },
    }
