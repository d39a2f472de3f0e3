"""manifests/: every overlay renders offline, fits Kubernetes' schemas, and asks for no more than it must."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from components.artifacts import signature
from components.container_images import NAMES, PREFIX, image
from components.step_resources import SECRET_VARIABLES

ROOT = Path(__file__).resolve().parent.parent
MANIFESTS = ROOT / "manifests"
OVERLAYS = sorted(path.name for path in (MANIFESTS / "overlays").iterdir())
NAMESPACED_BY = "kubeflow"

pytestmark = pytest.mark.skipif(
    not shutil.which("kubectl"), reason="kubectl renders the manifests and is not installed"
)


@pytest.fixture(scope="module", params=OVERLAYS)
def objects(request) -> list[dict]:
    """Everything that one overlay renders."""
    command = ["kubectl", "kustomize", str(MANIFESTS / "overlays" / request.param)]
    rendered = subprocess.run(command, capture_output=True, text=True)
    assert rendered.returncode == 0, rendered.stderr
    return list(yaml.safe_load_all(rendered.stdout))


def of_kind(objects: list[dict], kind: str) -> list[dict]:
    return [item for item in objects if item["kind"] == kind]


def pod_specs(objects: list[dict]) -> list[dict]:
    return [item["spec"]["template"]["spec"] for item in objects if "template" in item.get("spec", {})]


def test_every_object_fits_its_schema(objects):
    import kubernetes_validate

    assert len(objects) >= 8
    for item in objects:
        for version in ("1.30", "1.34"):
            kubernetes_validate.validate(item, version, strict=True)


def test_nothing_reaches_beyond_one_namespace(objects):
    for item in objects:
        assert item["metadata"]["namespace"] == NAMESPACED_BY, item
        assert not item["kind"].startswith("Cluster") and item["kind"] != "PersistentVolumeClaim"


def test_images_are_ours(objects):
    images = [container["image"] for spec in pod_specs(objects) for container in spec["containers"]]
    assert images and set(images) <= {image(name) for name in NAMES}
    assert all(name.startswith(PREFIX) for name in images)


def test_pods_meet_the_restricted_standard(objects):
    for spec in pod_specs(objects):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False and context["readOnlyRootFilesystem"] is True
            assert context["capabilities"]["drop"] == ["ALL"]
            assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"]["requests"])
            assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"]["limits"])
        assert all("emptyDir" in volume for volume in spec["volumes"])


def rules(objects: list[dict]) -> dict[str, dict]:
    """The one Role's rules by resource."""
    (role,) = of_kind(objects, "Role")
    return {name: rule for rule in role["rules"] for name in rule["resources"]}


def test_rights_are_the_least(objects):
    assert not any("*" in rule["verbs"] + rule["resources"] + rule["apiGroups"] for rule in rules(objects).values())
    # Reading any Secret of the namespace would be as good as having them all.
    assert rules(objects)["secrets"]["resourceNames"] and rules(objects)["secrets"]["verbs"] == ["get"]


def test_steps_may_make_what_they_make(objects):
    allowed = rules(objects)
    for resource in ("jobs", "services", "deployments", "horizontalpodautoscalers", "poddisruptionbudgets"):
        assert {"create", "patch", "get", "list", "delete"} <= set(allowed[resource]["verbs"])
    assert "get" in allowed["pods/log"]["verbs"]


def used_by_the_code() -> set[str]:
    """Plural names of the kinds that the training and serving steps read or write, as their sources name them."""
    folders = [ROOT / "components" / name for name in ("train", "serve", "artifacts")]
    sources = [path.read_text() for folder in folders for path in folder.rglob("*.py")]
    kinds = {found for text in sources for found in re.findall(r'"(?:v1|[a-z0-9.]+/v\d\w*)", "([A-Z]\w+)"', text)}
    kinds |= {found for text in sources for found in re.findall(r'"kind": "([A-Z]\w+)"', text)}
    kinds |= {found for text in sources for found in re.findall(r'_find\(cluster, "([A-Z]\w+)"', text)}  # Kueue's
    return {f"{kind.lower()}s" for kind in kinds - {"Workflow"}}


def test_rights_are_those_that_the_code_uses(objects):
    used = used_by_the_code()
    assert {"jobs", "services", "deployments", "pods"} <= used
    # The store's settings and the run's Workflow are read by components/shared, logs by a path below the pod.
    assert set(rules(objects)) == used | {"pods/log", "configmaps", "secrets", "workflows", "localqueues", "workloads"}


def test_workers_are_covered_by_the_policy_that_is_meant_for_them():
    from components.train.launcher import job

    rendered = yaml.safe_load((MANIFESTS / "base/training/networkpolicy.yaml").read_text())
    assert rendered["spec"]["podSelector"]["matchLabels"].items() <= job._LABELS.items()


def test_servers_are_covered_by_theirs():
    from components.serve import objects as served

    rendered = yaml.safe_load((MANIFESTS / "base/serving/networkpolicy.yaml").read_text())
    assert rendered["spec"]["podSelector"]["matchLabels"].items() <= served.LABELS.items()
    assert rendered["spec"]["ingress"][0]["ports"][0]["port"] == served.PORT
    account = yaml.safe_load((MANIFESTS / "base/serving/serviceaccount.yaml").read_text())
    assert account["metadata"]["name"] == served.SERVICE_ACCOUNT


def test_secret_templates_have_the_keys_that_the_steps_ask_for():
    import kubernetes_validate

    templates = list(yaml.safe_load_all((MANIFESTS / "base/storage/secrets.template.yaml").read_text()))
    names = [item["metadata"]["name"] for item in templates]
    assert names == [f"museum-classifier-{name}" for name in SECRET_VARIABLES]
    for item, variables in zip(templates, SECRET_VARIABLES.values(), strict=True):
        kubernetes_validate.validate(item, "1.34", strict=True)
        assert set(item["stringData"]) <= {*variables, "key.json", signature.PUBLIC_KEY}
        assert set(item["stringData"].values()) <= {"", "{}"}, "a template is filled in where it is used, not here"


def test_no_overlay_empties_a_secret_that_was_filled_in(objects):
    assert not of_kind(objects, "Secret")


def test_every_overlay_limits_disk_and_network(objects):
    assert len(of_kind(objects, "LimitRange")) == 1
    assert len(of_kind(objects, "NetworkPolicy")) == 3


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_another_namespace_is_one_edit(tmp_path, overlay):
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    file = tmp_path / "manifests/overlays" / overlay / "kustomization.yaml"
    file.write_text(file.read_text().replace("namespace: kubeflow\n", "namespace: museum\n"))
    rendered = subprocess.run(["kubectl", "kustomize", str(file.parent)], capture_output=True, text=True, check=True)
    for item in yaml.safe_load_all(rendered.stdout):
        assert item["metadata"]["namespace"] == "museum"
        assert all(subject["namespace"] == "museum" for subject in item.get("subjects", ()))


def test_images_are_those_that_were_pushed(tmp_path):
    references = {name: f"r.example/{name}@sha256:{'0' * 64}" for name in NAMES}
    (tmp_path / "images.json").write_text(json.dumps(references))
    command = [sys.executable, str(MANIFESTS / "render.py"), "cluster"]

    def images(*options: str) -> set[str]:
        rendered = subprocess.run([*command, *options], capture_output=True, text=True, check=True).stdout
        return {each["image"] for spec in pod_specs(list(yaml.safe_load_all(rendered))) for each in spec["containers"]}

    assert images("--digests", str(tmp_path / "images.json")) == {references["data"]}
    assert images("--registry", "ghcr.io/you/", "--tag", "2") == {"ghcr.io/you/museum-classifier-data:2"}
    assert images() == {image("data")}
    failed = subprocess.run([*command, "--digests", str(tmp_path / "none.json")], capture_output=True, text=True)
    assert failed.returncode == 1 and "make push writes this file" in failed.stderr and "Traceback" not in failed.stderr


def test_no_right_is_given_twice(objects):
    (role,) = of_kind(objects, "Role")
    assert len({str(rule) for rule in role["rules"]}) == len(role["rules"])


POLICIES = {"training": {443, 6443, 8443, 16443}, "serving": {443, 80}, "tensorboard": {443}}


@pytest.mark.parametrize("folder", POLICIES)
def test_pods_reach_the_store_of_a_stock_installation_and_little_else(folder):
    """The API server's port is 6443, minikube's 8443, MicroK8s' 16443: workers ask it where the store is."""
    policy = yaml.safe_load((MANIFESTS / "base" / folder / "networkpolicy.yaml").read_text())["spec"]
    dns, store, others = policy["egress"][:3]
    assert {port["port"] for port in dns["ports"]} == {53, 5353} and "to" not in dns
    (selected,) = store["to"][0]["podSelector"]["matchExpressions"]
    assert set(selected["values"]) == {"minio", "seaweedfs"}
    assert {port["port"] for port in store["ports"]} == {9000, 8333}
    assert {port["port"] for port in others["ports"]} == POLICIES[folder] and "to" not in others
    assert all("to" in rule for rule in policy["egress"][3:])


def documented_patches() -> list[dict]:
    """The patches of docs/cluster.md for a store that is reached by another port."""
    text = (ROOT / "docs/cluster.md").read_text()
    return [patch for block in re.findall(r"   ```yaml\n(   patches:.*?)   ```", text, re.S)
            for patch in yaml.safe_load(block)["patches"]]  # fmt: skip


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_another_port_of_the_store_is_one_patch_for_all_who_read_it(tmp_path, overlay):
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    file = tmp_path / "manifests/overlays" / overlay / "kustomization.yaml"
    kustomization = yaml.safe_load(file.read_text())
    kustomization.setdefault("patches", []).extend(documented_patches())
    file.write_text(yaml.safe_dump(kustomization))
    rendered = subprocess.run(["kubectl", "kustomize", str(file.parent)], capture_output=True, text=True, check=True)
    policies = of_kind(list(yaml.safe_load_all(rendered.stdout)), "NetworkPolicy")
    assert len(policies) == 3
    for policy in policies:
        egress = policy["spec"]["egress"]
        opened = [rule for rule in egress if {"protocol": "TCP", "port": 9443} in rule.get("ports", ())]
        assert len(opened) == 1 and opened[0]["to"] == [{"ipBlock": {"cidr": "10.1.2.0/24"}}]


def test_tensorboard_looks_where_the_runs_of_its_namespace_are():
    """Its environment as the Deployment makes it, in a standalone KFP, in a profile, and with a root of one's own."""
    from components.tensorboard import __main__ as tensorboard

    deployment = yaml.safe_load((MANIFESTS / "base/tensorboard/deployment.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (root,) = [entry for entry in container["env"] if entry["name"] == "PIPELINE_ROOT"]
    reference = {"name": "kfp-launcher", "key": "defaultPipelineRoot", "optional": True}
    assert root["valueFrom"] == {"configMapKeyRef": reference}
    assert not any(argument.startswith("--logdir") for argument in container["args"])
    lines = (MANIFESTS / "base/tensorboard/tensorboard.env").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert not {"LOG_DIR", "S3_ENDPOINT"} & set(given)
    at = {**given, "S3_ENDPOINT": "http://seaweedfs.kubeflow:9000"}
    profile = "minio://mlpipeline/private-artifacts/team/v2/artifacts"
    found = [tensorboard.runs_folder({**at, **more}) for more in
             ({"PIPELINE_ROOT": ""}, {"PIPELINE_ROOT": profile}, {"LOG_DIR": "gs://b/museum-classifier"})]  # fmt: skip
    assert found == [
        "s3://mlpipeline/v2/artifacts/museum-classifier",
        "s3://mlpipeline/private-artifacts/team/v2/artifacts/museum-classifier",
        "gs://b/museum-classifier",
    ]
