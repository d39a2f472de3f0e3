"""The checks of `pipeline.py doctor` on Kubernetes, except those of the store: each reads one thing only."""

import base64
import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cli import registry
from cli.target import Target
from components.container_images import NAMES
from components.shared import kubernetes
from components.shared.kubernetes import Cluster, Object
from components.step_resources import run_config

ROLE = Path(__file__).resolve().parent.parent / "manifests" / "base" / "rbac" / "role.yaml"
CONTROLLER_CONFIG = "workflow-controller-configmap"
KFP_NAMESPACE = "kubeflow"
# Retries what can pass: a pod that is gone (Error), one that ended with a status, one that its node evicted. A graph
# whose step failed has none of it (exit status -1), and is not run all over again, as retryPolicy: Always would do.
RETRY = 'lastRetry.status == "Error" || asInt(lastRetry.exitCode) > 0 || lastRetry.message contains "low on resource"'
_KFP_PARTS = (
    *("ml-pipeline", "ml-pipeline-ui", "ml-pipeline-persistenceagent", "ml-pipeline-viewer-crd"),
    *("metadata-grpc-deployment", "workflow-controller"),
)
_NO_ACCELERATOR = re.compile(r"cpu|memory|pods|ephemeral-storage|(hugepages|attachable-volumes)-.*|.*kubernetes\.io/.*")
_APPLY = "kubectl apply -k manifests/overlays/cluster (docs/cluster.md, 3)"


@dataclass(frozen=True)
class Finding:
    """One line of the page: state is ok, mend, note or unknown; `text` may go on in further lines."""

    state: str
    topic: str
    text: str


@dataclass
class Patient:
    """A cluster that is looked at, for runs with a `target` and a pipeline `root` (empty for the server's)."""

    cluster: Cluster
    target: Target
    root: str
    account: str
    multi_user: bool
    _seen: dict[str, Any] = field(default_factory=dict)

    @property
    def kfp_namespace(self) -> str:
        """Where KFP itself is: in the namespace of the runs, or in `kubeflow`."""
        return self.cluster.namespace if not self.multi_user and self.own("services/ml-pipeline") else KFP_NAMESPACE

    @property
    def steps_account(self) -> str:
        """The ServiceAccount that steps have."""
        return self.account or ("pipeline-runner" if self.kfp_namespace == self.cluster.namespace else "default-editor")

    def own(self, path: str) -> Object | None:
        """An object of the runs' namespace, as `configmaps/NAME`; None if there is none."""
        return self.of(f"/api/v1/namespaces/{self.cluster.namespace}/{path}")

    def of(self, path: str) -> Object | None:
        """What stands at a path of the API, asked once; None if nothing does."""
        if path not in self._seen:
            try:
                self._seen[path] = self.cluster.look(path)
            except kubernetes.NotThere:
                self._seen[path] = None
        return self._seen[path]

    def workflow_defaults(self) -> dict[str, Any] | None:
        """`spec` of Argo's workflowDefaults; None if its ConfigMap is not found."""
        found = self.of(f"/api/v1/namespaces/{self.kfp_namespace}/configmaps/{CONTROLLER_CONFIG}")
        if found is None:
            return None
        return (yaml.safe_load((found.get("data") or {}).get("workflowDefaults") or "") or {}).get("spec") or {}


def kfp_pods(patient: Patient) -> Iterator[Finding]:
    """Whether KFP's own Deployments are ready."""
    namespace = patient.kfp_namespace
    found = (patient.of(f"/apis/apps/v1/namespaces/{namespace}/deployments") or {}).get("items", [])
    known = {entry["metadata"]["name"]: entry for entry in found}
    if not {"ml-pipeline", "workflow-controller"} & set(known):
        yield Finding("mend", "KFP", f"it is not in namespace {namespace}: install it (docs/cluster.md, 1)")
        return
    late = [name for name in _KFP_PARTS if name in known and not known[name].get("status", {}).get("availableReplicas")]
    if late:
        yield Finding("mend", "KFP", f"not ready: {', '.join(late)} (kubectl -n {namespace} get pods says why)")
    else:
        server = known["ml-pipeline" if "ml-pipeline" in known else "workflow-controller"]
        image = server["spec"]["template"]["spec"]["containers"][0]["image"]
        yield Finding("ok", "KFP", f"its parts are ready in namespace {namespace} ({image})")


def role(patient: Patient) -> Iterator[Finding]:
    """Whether the account of the steps has what the Role of manifests/base/rbac gives."""
    account, namespace = patient.steps_account, patient.cluster.namespace
    if patient.own(f"serviceaccounts/{account}") is None:
        yield Finding("mend", "Role", f"no ServiceAccount {account} in {namespace}: give --namespace or --account")
        return
    refused = []
    for rule in yaml.safe_load(ROLE.read_text())["rules"]:
        for resource in rule["resources"]:
            if resource == "inferenceservices":  # for serve_kind=kserve only
                continue
            for name in rule.get("resourceNames", [""]):
                verbs = [verb for verb in rule["verbs"]
                         if not patient.cluster.may(account, verb, rule["apiGroups"][0], resource, name)]  # fmt: skip
                refused += [f"{', '.join(verbs)} {resource}{f' {name}' if name else ''}"] if verbs else []
    if not refused:
        yield Finding("ok", "Role", f"{account} may do all that steps do")
        return
    shown = "; ".join(refused[:3]) + (f"; and {len(refused) - 3} more" if len(refused) > 3 else "")
    yield Finding("mend", "Role", f"{account} may not {shown}: {_APPLY}")


def retries(patient: Patient) -> Iterator[Finding]:
    """Which of a step's failures Argo retries."""
    spec = patient.workflow_defaults()
    if spec is None:
        yield Finding("unknown", "Retries", f"there is no ConfigMap {CONTROLLER_CONFIG} in {patient.kfp_namespace}")
        return
    found = (spec.get("templateDefaults") or {}).get("retryStrategy") or {}
    policy = found.get("retryPolicy") or ("Always" if found.get("expression") else "OnFailure")
    if policy == "Always" and found.get("expression"):
        yield Finding("ok", "Retries", "steps are retried when they fail and when their pod is gone")
    elif policy == "Always":
        yield Finding("mend", "Retries", "retryPolicy: Always runs the whole graph again for one step that failed"
                      + _patch(patient, spec))  # fmt: skip
    elif policy == "OnError":
        yield Finding("note", "Retries", "a step whose pod is deleted is retried; one that fails, runs out of memory "
                      "or is evicted is not\nfor both:" + _patch(patient, spec))  # fmt: skip
    else:
        yield Finding("note", "Retries", "a step that fails is retried; one whose pod is deleted is not\nfor both:"
                      + _patch(patient, spec))  # fmt: skip


def _patch(patient: Patient, spec: dict[str, Any]) -> str:
    """The two commands that change it; all else of Argo's defaults stays."""
    strategy = {"limit": 2, "expression": RETRY}
    wanted = {**spec, "templateDefaults": {**(spec.get("templateDefaults") or {}), "retryStrategy": strategy}}
    change = json.dumps({"data": {"workflowDefaults": yaml.safe_dump({"spec": wanted}, width=1000)}})
    kubectl = f"kubectl -n {patient.kfp_namespace}"
    return (
        f"\n  {kubectl} patch configmap {CONTROLLER_CONFIG} --type merge -p {shlex.quote(change)}"
        f"\n  {kubectl} rollout restart deployment workflow-controller"
    )


def ttl(patient: Patient) -> Iterator[Finding]:
    """When Argo deletes a finished Workflow, and what of it stays."""
    spec = patient.workflow_defaults()
    if spec is None:
        return
    strategy = spec.get("ttlStrategy") or {}
    seconds = strategy.get("secondsAfterCompletion") or min(
        (each for each in (strategy.get("secondsAfterSuccess"), strategy.get("secondsAfterFailure")) if each), default=0
    )
    if not seconds:
        yield Finding("note", "TTL", "finished Workflows and their pods stay until a run is deleted: mind the disk")
        return
    data = (patient.of(f"/api/v1/namespaces/{patient.kfp_namespace}/configmaps/{CONTROLLER_CONFIG}") or {})["data"]
    archived = (yaml.safe_load(data.get("artifactRepository") or "") or {}).get("archiveLogs")
    kept = "logs stay in the store" if archived else "logs go with it (archiveLogs is off)"
    own = run_config()
    yield Finding("ok" if archived else "note", "TTL", "a finished Workflow is deleted after "
                  f"{own.ttl_seconds_after_success} s, one that failed after {own.ttl_seconds_after_failure} s, as our "
                  f"runs say, where KFP is older after {seconds} s; what serves stays, {kept}")  # fmt: skip


def pod_security(patient: Patient) -> Iterator[Finding]:
    """The level that the namespace enforces."""
    found = patient.of(f"/api/v1/namespaces/{patient.cluster.namespace}")
    if found is None:
        yield Finding("mend", "Pod Security", f"there is no namespace {patient.cluster.namespace}: give --namespace")
        return
    level = (found["metadata"].get("labels") or {}).get("pod-security.kubernetes.io/enforce", "privileged")
    yield Finding("ok", "Pod Security", f"{level} is enforced; steps, workers and servers meet restricted")


def images(patient: Patient) -> Iterator[Finding]:
    """Whether the nodes have the images, or the registry does; and what they last failed to pull."""
    references = {name: patient.target.image(name) for name in NAMES}
    nodes = (patient.of("/api/v1/nodes") or {}).get("items", [])
    held = {_full(name) for node in nodes for entry in node.get("status", {}).get("images") or []
            for name in entry.get("names") or []}  # fmt: skip
    logins = _logins(patient)
    absent = []
    for reference in references.values():
        if _full(reference) in held:
            continue
        if patient.target.pull_policy == "Never":  # kubelets tell what they have with a delay, and no more than 50
            absent.append((reference, "no node lists it yet, and Never pulls none: load it, or wait a minute"))
            continue
        if "/" not in reference:
            absent.append((reference, "it has no registry and no node lists it: kind load, or --registry/--digests"))
            continue
        try:
            why = registry.problem(reference, logins)
        except OSError as error:
            absent.append((reference, f"its registry does not answer here: {getattr(error, 'reason', error)}"))
            continue
        absent += [(reference, why)] if why else []
    for reference, why in absent:
        yield Finding("unknown" if "does not answer here" in why else "mend", "Images", f"{reference}: {why}")
    if not absent:
        where = "the nodes have" if {_full(each) for each in references.values()} <= held else "the registry has"
        yield Finding("ok", "Images", f"{where} {', '.join(references.values())}")


def _full(reference: str) -> str:
    host, path, version = registry.parts(reference)
    host = {"registry-1.docker.io": "docker.io", "index.docker.io": "docker.io"}.get(host, host)
    return f"{host}/{path}{'@' if version.startswith('sha256:') else ':'}{version}"


def _logins(patient: Patient) -> dict[str, Any]:
    if not patient.target.pull_secret:
        return {}
    found = patient.own(f"secrets/{patient.target.pull_secret}")
    if found is None:
        return {}
    text = base64.b64decode((found.get("data") or {}).get(".dockerconfigjson", "")).decode(errors="replace")
    return json.loads(text or "{}").get("auths") or {}


def pull_secret(patient: Patient) -> Iterator[Finding]:
    """Whether the pull Secret is there, if one was named."""
    name = patient.target.pull_secret
    if name and patient.own(f"secrets/{name}") is None:
        yield Finding("mend", "Images", f"there is no Secret {name} in {patient.cluster.namespace}: "
                      f"kubectl -n {patient.cluster.namespace} create secret docker-registry {name} ...")  # fmt: skip


def stuck_pods(patient: Patient) -> Iterator[Finding]:
    """Pods of the namespace that cannot pull an image or find no room now."""
    for pod in (patient.own("pods") or {}).get("items", []):
        for status in pod.get("status", {}).get("containerStatuses") or []:
            waiting = status.get("state", {}).get("waiting") or {}
            if waiting.get("reason") in kubernetes.CANNOT_START:
                text = " ".join(waiting.get("message", "").split())[:200]
                yield Finding("mend", "Pods", f"{pod['metadata']['name']}: {waiting['reason']}: {text}")
        for entry in pod.get("status", {}).get("conditions") or []:
            if entry["type"] == "PodScheduled" and entry["status"] == "False":
                text = " ".join(entry.get("message", "").split())[:200]
                yield Finding("mend", "Pods", f"{pod['metadata']['name']}: no node takes it: {text}")


def quota(patient: Patient) -> Iterator[Finding]:
    """Whether a ResourceQuota of the namespace is full."""
    found = (patient.own("resourcequotas") or {}).get("items", [])
    for entry in found:
        status, name = entry.get("status") or {}, entry["metadata"]["name"]
        hard, used = status.get("hard") or {}, status.get("used") or {}
        left = {key: _amount(most) - _amount(used.get(key, "0")) for key, most in hard.items()}
        full = [f"{key} {used.get(key, '0')} of {hard[key]}" for key, amount in left.items() if amount <= 0]
        if full:
            yield Finding("mend", "Quota", f"{name} is full: {', '.join(full)}: free some of it, or have it raised")
        else:
            yield Finding("ok", "Quota", f"{name} has room")
    if not found:
        yield Finding("ok", "Quota", "none in this namespace")


def accelerators(patient: Patient) -> Iterator[Finding]:
    """What the nodes offer, by the resource name that train_accelerator takes."""
    offered: dict[str, list[int]] = {}
    for node in (patient.of("/api/v1/nodes") or {}).get("items", []):
        for name, number in (node.get("status", {}).get("allocatable") or {}).items():
            if not _NO_ACCELERATOR.fullmatch(name) and _amount(number) > 0:
                offered.setdefault(name, []).append(int(_amount(number)))
    if not offered:
        yield Finding("note", "GPUs", "no node offers any: train_gpus=0 (drivers or a device plugin may be missing)")
    for name, numbers in sorted(offered.items()):
        each = f"at most {max(numbers)} on one" if len(numbers) > 1 else f"{numbers[0]}"
        yield Finding("ok", "GPUs", f"train_accelerator={name}: {sum(numbers)} on {len(numbers)} nodes, {each}")


def tensorboard(patient: Patient) -> Iterator[Finding]:
    """Whether KFP's viewer is there, or the TensorBoard of the manifests."""
    kinds = (patient.of("/apis/kubeflow.org/v1beta1") or {}).get("resources", [])
    viewer = any(entry.get("name") == "viewers" for entry in kinds)
    standing = patient.own("services/museum-classifier-tensorboard") is not None
    if viewer:
        yield Finding("ok", "TensorBoard", "KFP's viewer is installed" + (", and so is our own" if standing else ""))
    elif standing:
        yield Finding("ok", "TensorBoard", "kubectl port-forward service/museum-classifier-tensorboard 6006 "
                      "(KFP has no viewer here)")  # fmt: skip
    else:
        yield Finding("mend", "TensorBoard", f"neither KFP's viewer nor our own is installed: {_APPLY}")


def kueue(patient: Patient) -> Iterator[Finding]:
    """Whether Kueue would hold the training's Job back."""
    if patient.of("/apis/kueue.x-k8s.io") is None:
        yield Finding("ok", "Kueue", "not installed")
        return
    path = f"/apis/kueue.x-k8s.io/v1beta1/namespaces/{patient.cluster.namespace}/localqueues"
    queues = [entry["metadata"]["name"] for entry in (patient.of(path) or {}).get("items", [])]
    named = f"queues here: {', '.join(queues)}" if queues else "no queue in this namespace"
    yield Finding("note", "Kueue", f"installed, {named}; the training's Job names none, so it waits only where Kueue "
                  "manages Jobs without a queue name")  # fmt: skip


def _amount(text: Any) -> float:
    """A quantity of Kubernetes, such as 500m, 2, 4Gi."""
    match = re.fullmatch(r"([\d.]+)(m|k|[KMGTPE]i?)?", str(text))
    if not match:
        return 0.0
    unit = match[2] or ""
    powers = {"m": 1e-3, "k": 1e3} | {f"{letter}i": 1024.0 ** (place + 1) for place, letter in enumerate("KMGTPE")}
    powers |= {letter: 1000.0 ** (place + 1) for place, letter in enumerate("KMGTPE")}
    return float(match[1]) * powers.get(unit, 1.0)


Check = Callable[[Patient], Iterator[Finding]]
CHECKS: tuple[Check, ...] = (kfp_pods, role, retries, ttl, pod_security, images, pull_secret, stuck_pods, quota)
CHECKS += (accelerators, tensorboard, kueue)
# What a check is about, for where it may not look.
TOPICS = {
    "kfp_pods": "KFP",
    "role": "Role",
    "retries": "Retries",
    "ttl": "TTL",
    "pod_security": "Pod Security",
    "images": "Images",
    "pull_secret": "Images",
    "stuck_pods": "Pods",
    "quota": "Quota",
    "accelerators": "GPUs",
    "tensorboard": "TensorBoard",
    "kueue": "Kueue",
    "store": "Store",
}
