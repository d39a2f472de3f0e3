"""Deployment on a cluster: real server processes behind an API server that checks every object against the schemas."""

import json
import shutil
from pathlib import Path

import pytest

from components.serve import deploy, objects, smoke
from components.serve.objects import Model
from components.serve.rollout import Patience, Rollout, RolloutError, canary_pods
from components.shared import classifier, kubernetes
from components.shared.errors import PipelineError
from tests.serve import dataset_fixture
from tests.serve.kube_servers import Servers
from tests.shared.kube_api import KubeApi
from tests.shared.object_stores import s3_bucket, s3_endpoint, s3_environment  # noqa: F401  pytest fixtures
from tests.train.step_pod import step_pod

IMAGE = "registry.example.org/museum/serve@sha256:" + "b" * 64
PATIENCE = Patience(poll=0.05, image=0.2, ready=60)
RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}


@pytest.fixture
def kube(monkeypatch, tmp_path):
    with KubeApi() as kube:
        monkeypatch.setenv("KUBECONFIG", kube.kubeconfig(tmp_path / "kubeconfig"))
        pod = kube.put(step_pod())
        monkeypatch.setenv("KFP_POD_NAME", pod["metadata"]["name"])
        yield kube


@pytest.fixture
def servers(kube, monkeypatch):
    with Servers(kube) as servers:
        monkeypatch.setattr(Rollout, "url", lambda _, name: servers.url(name))
        yield servers


@pytest.fixture
def examples(tmp_path):
    return smoke.choose_pictures(dataset_fixture.build(tmp_path / "data", examples=6))


@pytest.fixture
def models(classifier_dir, tmp_path) -> list[Model]:
    """Three classifiers that differ in their names only, so their digests differ; the third answers nonsense."""
    found = []
    for name in ("first", "second", "wrong"):
        folder = Path(shutil.copytree(classifier_dir, tmp_path / name))
        card = json.loads((folder / "model_card.json").read_text()) | {"name": name}
        if name == "wrong":
            card["labels"] = ["blue", "red", "green"]
            (folder / "labels.txt").write_text("blue\nred\ngreen\n")
        (folder / "model_card.json").write_text(json.dumps(card))
        found.append(Model(str(folder), classifier.digest(str(folder))))
    return found


@pytest.fixture
def put(kube, servers, examples):
    """Deploys a model."""

    def put(model: Model, replicas: int = 1, canary: int = 0, image: str = IMAGE):
        around = objects.surroundings(step_pod(), [], own_account=True)
        rollout = Rollout(kubernetes.connect(), "colours", PATIENCE)
        return rollout.deploy(
            model, image, replicas, canary, around, lambda url: smoke.smoke_test(url, examples, model.digest, 0.94)
        )

    return put


def version(model: Model, image: str = IMAGE) -> str:
    return objects.version_of(model, image)


def replicas(kube) -> dict[str, int]:
    found = {entry["metadata"]["name"]: entry["spec"]["replicas"] for entry in kube.all("Deployment")}
    return {name.removeprefix("colours-"): number for name, number in found.items()}


def test_a_first_version(kube, servers, put, models):
    name, share, result = put(models[0], replicas=2)
    assert (name, share, result.right) == (version(models[0]), "all of the traffic", 6)
    assert kube.one("Service", "colours")["spec"]["selector"] == {
        "museum-classifier/service": "colours",
        "museum-classifier/version": name,
    }
    scaler = kube.one("HorizontalPodAutoscaler", "colours")["spec"]
    assert (scaler["scaleTargetRef"]["name"], scaler["minReplicas"]) == (f"colours-{name}", 2)
    assert kube.one("PodDisruptionBudget", "colours")["spec"]["maxUnavailable"] == 1


def test_pods_are_restricted_and_take_over_what_reaches_the_store(kube, servers, put, models):
    put(models[0])
    [deployment] = kube.all("Deployment")
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == RESTRICTED
    assert pod["automountServiceAccountToken"] is False and pod["serviceAccountName"] == "museum-classifier-server"
    assert set(container["resources"]) == {"requests", "limits"} and container["image"] == IMAGE
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    environment = {entry["name"]: entry for entry in container["env"]}
    assert environment["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"] == {"name": "store", "key": "key"}
    assert not {"ARGO_TEMPLATE", "KFP_POD_NAME"} & set(environment)
    assert {volume["name"] for volume in pod["volumes"]} == {"tmp", "certificates"}
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    # The model outlives the run that made it.
    assert "ownerReferences" not in deployment["metadata"]


def test_a_second_version_takes_over_and_the_first_stays_for_a_rollback(kube, servers, put, models):
    first, _, _ = put(models[0], replicas=2)
    second, _, _ = put(models[1], replicas=2)
    assert replicas(kube) == {first: 0, second: 2}
    assert smoke.get_json(f"{servers.url('colours')}/v1/models/colours/metadata")["card"]["name"] == "second"

    assert deploy.rollback("deployment", "colours", PATIENCE) == f"colours serves {first} again, instead of {second}"
    assert replicas(kube) == {first: 2, second: 0}
    assert smoke.get_json(f"{servers.url('colours')}/v1/models/colours/metadata")["card"]["name"] == "first"
    # Back once more: the way is open in both directions.
    deploy.rollback("deployment", "colours", PATIENCE)
    assert replicas(kube) == {first: 0, second: 2}


def test_a_version_that_answers_wrongly_is_taken_back(kube, servers, put, models):
    first, _, _ = put(models[0])
    with pytest.raises(RolloutError, match=f"right for 0 of 6 test pictures.*colours still serves {first}"):
        put(models[2])
    assert replicas(kube) == {first: 1}
    assert {service["metadata"]["name"] for service in kube.all("Service")} == {"colours", f"colours-{first}"}
    assert kube.one("Service", "colours")["spec"]["selector"]["museum-classifier/version"] == first


def test_people_never_reach_a_version_before_it_is_tried(kube, servers, put, models, examples):
    """The public Service leads to the old version for as long as the new one is being tried."""
    first, _, _ = put(models[0])
    seen = []

    def look(url: str):
        seen.append(kube.one("Service", "colours")["spec"]["selector"].get("museum-classifier/version"))
        return smoke.smoke_test(url, examples, models[1].digest, None)

    around = objects.surroundings(step_pod(), [], own_account=True)
    second, _, _ = Rollout(kubernetes.connect(), "colours", PATIENCE).deploy(models[1], IMAGE, 1, 0, around, look)
    assert seen == [first, second]


def test_a_version_that_crashes_says_why(kube, servers, put, models):
    with pytest.raises(RolloutError, match="keeps crashing: .*checksum.*colours serves nothing"):
        put(Model(models[0].uri, "0" * 64))
    assert kube.all("Deployment") == [] and kube.all("Service") == []


def test_an_image_that_cannot_be_pulled(kube, servers, put, models):
    first, _, _ = put(models[0])
    servers.broken_images.add("nowhere/serve:1")
    with pytest.raises(RolloutError, match="ImagePullBackOff: no such image nowhere/serve:1.*still serves"):
        put(models[1], image="nowhere/serve:1")
    assert replicas(kube) == {first: 1}


def test_pods_that_never_become_ready_time_out(kube, models):
    """No controller plays here: the Deployment stays as it was applied."""
    rollout = Rollout(kubernetes.connect(), "colours", Patience(poll=0.02, image=0.1, ready=0.2))
    around = objects.surroundings(step_pod(), [], own_account=False)
    with pytest.raises(RolloutError, match="not ready after 0 s: there is no pod yet"):
        rollout.deploy(models[0], IMAGE, 1, 0, around, smoke=None)
    assert kube.all("Deployment") == []


def test_deploying_the_same_again_changes_nothing(kube, servers, put, models):
    first, _, _ = put(models[0])
    second, _, _ = put(models[1])
    before = kube.one("Service", "colours")["metadata"]["annotations"]
    put(models[1])
    assert kube.one("Service", "colours")["metadata"]["annotations"] == before == {"museum-classifier/previous": first}
    assert replicas(kube) == {first: 0, second: 1}


def test_a_canary_gets_its_share_and_then_everything(kube, servers, put, models):
    first, _, _ = put(models[0])
    second, share, _ = put(models[1], canary=25)
    assert replicas(kube) == {first: 3, second: 1} and share.startswith("25% of the traffic (1 of 4 pods)")
    names = [smoke.get_json(f"{servers.url('colours')}/v1/models/colours/metadata")["card"]["name"] for _ in range(8)]
    assert (names.count("first"), names.count("second")) == (6, 2)
    assert put(models[1])[1] == "all of the traffic"
    assert replicas(kube) == {first: 0, second: 1}
    assert kube.one("Service", "colours")["spec"]["selector"]["museum-classifier/version"] == second


def test_old_versions_go_in_the_end(kube, servers, put, models):
    made = [put(models[0], image=f"serve:{number}")[0] for number in range(6)]
    assert set(replicas(kube)) == set(made[-4:])
    assert len(kube.all("Service")) == 5


def test_without_the_right_to_scale_it_serves_all_the_same(kube, servers, put, models, capsys):
    """KFP's own role lets a step make Deployments and Services, and no autoscalers or disruption budgets."""
    for plural in ("horizontalpodautoscalers", "poddisruptionbudgets"):
        kube.refuse("*", plural, 403)
    name, _, _ = put(models[0])
    assert replicas(kube) == {name: 1} and kube.all("HorizontalPodAutoscaler") == []
    assert "warning: cannot apply HorizontalPodAutoscaler" in capsys.readouterr().out


def test_another_service_of_that_name_is_left_alone(kube, put, models):
    kube.put(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "colours"}, "spec": {"selector": {"app": "x"}}}
    )
    with pytest.raises(RolloutError, match="another Service called colours"):
        put(models[0])
    assert kube.one("Service", "colours")["spec"]["selector"] == {"app": "x"}


def test_nothing_to_go_back_to(kube, servers, put, models):
    with pytest.raises(RolloutError, match="there is no service colours"):
        deploy.rollback("deployment", "colours", PATIENCE)
    put(models[0])
    with pytest.raises(RolloutError, match="no previous version"):
        deploy.rollback("deployment", "colours", PATIENCE)


@pytest.mark.parametrize(
    ("percent", "number", "pods"),
    [(50, 1, (1, 1)), (25, 1, (3, 1)), (10, 1, (9, 1)), (10, 9, (9, 1)), (50, 3, (3, 3)), (1, 1, (19, 1))],
)
def test_shares_in_whole_pods(percent, number, pods):
    assert canary_pods(percent, number) == pods


def test_the_whole_step_in_a_pod(kube, servers, classifier_dir, tmp_path, monkeypatch, s3_bucket):  # noqa: F811
    """deploy() as the component calls it: the server reads the model from the store, by its URI and checksum."""
    from components.shared import storage

    for name in ("model.tflite", "labels.txt", "model_card.json"):
        storage.upload(f"{classifier_dir}/{name}", f"{s3_bucket}/classifier/{name}")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    settings = deploy.Settings("deployment", "colours", IMAGE, 1, 0)
    data = dataset_fixture.build(tmp_path / "data", examples=6)
    found = deploy.deploy(settings, data, classifier_dir, f"{s3_bucket}/classifier", str(tmp_path / "summary.md"))
    assert found.result.right == 6 and found.where == "http://colours.kubeflow.svc, with all of the traffic"
    assert "colours passed its smoke test" in (tmp_path / "summary.md").read_text()
    # museum-classifier-server is not there, so the pod has the step's own account, and still no token.
    pod = kube.all("Deployment")[0]["spec"]["template"]["spec"]
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("pipeline-runner", False)


def test_a_model_on_a_local_disk_is_refused(kube, classifier_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    data = dataset_fixture.build(tmp_path / "data", examples=6)
    settings = deploy.Settings("deployment", "colours", IMAGE, 1, 0)
    with pytest.raises(PipelineError, match="no other pod can read"):
        deploy.deploy(settings, data, classifier_dir, classifier_dir, str(tmp_path / "summary.md"))
