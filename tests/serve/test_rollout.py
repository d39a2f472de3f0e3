"""Deployment on a cluster: real server processes behind an API server that checks every object against the schemas."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from cli.main import main
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
def questions(tmp_path, classifier_dir):
    data = dataset_fixture.build(tmp_path / "data", examples=6)
    return smoke.choose_questions(data, dataset_fixture.evaluate(data, classifier_dir, tmp_path / "predictions"))


@pytest.fixture
def put(kube, servers, questions):
    """Deploys a model; `look` is called with the URL before each smoke test."""

    def put(model: Model, replicas: int = 1, canary: int = 0, image: str = IMAGE, look=lambda url: None):
        def smoke_test(url: str) -> smoke.SmokeResult:
            look(url)
            return smoke.try_service(url, questions, model.digest, pause=0.01)

        around = objects.surroundings(step_pod(), [], own_account=True)
        rollout = Rollout(kubernetes.connect(), "colours", PATIENCE)
        return rollout.deploy(model, image, replicas, canary, around, smoke_test)

    return put


def rollback() -> str:
    return deploy.rollback(kubernetes.connect(), "colours", PATIENCE)


def served(servers, times: int = 1) -> list[str]:
    """Names of the models that answered to people, one connection after the other."""
    url = f"{servers.url('colours')}/v1/models/colours/metadata"
    return [smoke.get_json(url)["card"]["name"] for _ in range(times)]


def scaled_by_itself(kube, name: str, pods: int) -> None:
    """What an autoscaler does under load."""
    kube.change("Deployment", f"colours-{name}", lambda obj: obj["spec"].update(replicas=pods))
    kube.wait(lambda: kube.one("Deployment", f"colours-{name}")["status"].get("readyReplicas") == pods)


def autoscaler(kube) -> tuple[str, int, int]:
    spec = kube.one("HorizontalPodAutoscaler", "colours")["spec"]
    return spec["scaleTargetRef"]["name"].removeprefix("colours-"), spec["minReplicas"], spec["maxReplicas"]


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
    assert autoscaler(kube) == (name, 2, 8)
    assert kube.one("PodDisruptionBudget", "colours")["spec"]["maxUnavailable"] == 1


def test_pods_are_restricted_and_take_over_what_reaches_the_store(kube, servers, put, models):
    put(models[0])
    [deployment] = kube.all("Deployment")
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
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


def test_a_pod_gets_its_identity_from_its_own_account():
    """EKS puts these into every pod, with the file that they name: the step's would be another account's."""
    values = {"AWS_ROLE_ARN": "arn:of:the:step", "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/t", "AWS_REGION": "eu-west-1"}
    around = objects.surroundings(step_pod(values), [], own_account=True)
    assert [entry["name"] for entry in around.environment] == ["AWS_SECRET_ACCESS_KEY", "AWS_REGION"]


def test_the_image_is_pulled_as_the_steps_own():
    pod = step_pod()
    pod["spec"]["containers"][1]["imagePullPolicy"] = "Never"
    around = objects.surroundings(pod, [], own_account=True)
    assert objects.container("colours", Model("s3://b/m", "0" * 64), IMAGE, around)["imagePullPolicy"] == "Never"


def test_it_scales_before_a_pod_lacks_cpu():
    """The target is below what a pod is sure of, or else a full node would keep it from ever being reached."""
    spec = objects.autoscaler("colours", "v", 1)["spec"]
    around = objects.surroundings(step_pod(), [], own_account=True)
    container = objects.container("colours", Model("s3://b/m", "0" * 64), IMAGE, around)
    requested, limit = (container["resources"][kind]["cpu"] for kind in ("requests", "limits"))
    sure, most = int(requested.removesuffix("m")) / 1000, float(limit)
    wanted = sure * spec["metrics"][0]["resource"]["target"]["averageUtilization"] / 100
    assert wanted < 0.9 * sure and most / 3 <= wanted <= most


def test_a_second_version_takes_over_and_the_first_stays_for_a_rollback(kube, servers, put, models):
    first, _, _ = put(models[0], replicas=2)
    second, _, _ = put(models[1], replicas=2)
    assert replicas(kube) == {first: 0, second: 2}
    assert served(servers) == ["second"]

    assert rollback() == f"colours serves {first} again, instead of {second}"
    assert replicas(kube) == {first: 2, second: 0}
    assert served(servers) == ["first"] and autoscaler(kube) == (first, 2, 8)
    # Back once more: the way is open in both directions.
    rollback()
    assert replicas(kube) == {first: 0, second: 2}


def test_rollback_from_a_desk(kube, servers, put, models, monkeypatch, tmp_path, capsys):
    """pipeline.py rollback, with a kubeconfig as kubectl has it, outside of the cluster."""
    first, _, _ = put(models[0])
    second, _, _ = put(models[1])
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    config = kube.kubeconfig(tmp_path / "config")
    capsys.readouterr()
    assert main(["rollback", "colours", "--kubeconfig", config, "--context", "test", "--namespace", "kubeflow"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"colours serves {first} again, instead of {second}"
    assert served(servers) == ["first"]
    assert main(["rollback", "colors", "--kubeconfig", config]) != 0
    assert capsys.readouterr().err == "error: there is no service colors in namespace kubeflow\n"
    assert main(["rollback", "colours", "--kubeconfig", str(tmp_path / "none")]) != 0
    assert capsys.readouterr().err.startswith("error: no Kubernetes cluster to talk to: ")


def test_a_version_that_answers_wrongly_is_taken_back(kube, servers, put, models):
    first, _, _ = put(models[0])
    with pytest.raises(RolloutError, match=f"for 6 of 6 test pictures.*colours still serves {first}"):
        put(models[2])
    assert replicas(kube) == {first: 1}
    assert {service["metadata"]["name"] for service in kube.all("Service")} == {"colours", f"colours-{first}"}
    assert kube.one("Service", "colours")["spec"]["selector"]["museum-classifier/version"] == first


def test_people_never_reach_a_version_before_it_is_tried(kube, servers, put, models):
    """The public Service leads to the old version for as long as the new one is being tried."""
    first, _, _ = put(models[0])
    seen = []

    def look(url: str):
        seen.append(kube.one("Service", "colours")["spec"]["selector"].get("museum-classifier/version"))

    second, _, _ = put(models[1], look=look)
    assert seen == [first, second]


def test_a_cluster_that_learns_late_of_services_and_of_where_they_lead(kube, servers, put, models):
    """A Service refuses connections at first, and the moved one still leads to the old version for a while."""
    servers.lag = 2
    first, _, _ = put(models[0])
    second, _, _ = put(models[1])
    assert replicas(kube) == {first: 0, second: 1} and served(servers) == ["second"]


def test_a_new_version_begins_with_the_pods_that_the_old_one_has_come_to(kube, servers, put, models):
    first, _, _ = put(models[0], replicas=2)
    scaled_by_itself(kube, first, 5)
    second, _, _ = put(models[1], replicas=2)
    assert replicas(kube) == {first: 0, second: 5} and autoscaler(kube) == (second, 2, 8)
    rollback()
    assert replicas(kube) == {first: 5, second: 0} and autoscaler(kube) == (first, 2, 8)


def test_fewer_pods_are_fewer_where_nothing_scaled(kube, servers, put, models):
    put(models[0], replicas=3)
    second, _, _ = put(models[1], replicas=1)
    assert replicas(kube)[second] == 1 and autoscaler(kube) == (second, 1, 4)


@pytest.mark.parametrize("when", [0, 1], ids=["before the switch", "after it"])
@pytest.mark.parametrize("failure", [KeyError("version"), smoke.SmokeTestError("no"), KeyboardInterrupt()])
def test_whatever_goes_wrong_the_old_version_is_as_it_was(kube, servers, put, models, failure, when):
    first, _, _ = put(models[0], replicas=2)
    scaled_by_itself(kube, first, 3)
    kube.change("HorizontalPodAutoscaler", "colours", lambda obj: obj["spec"].update(maxReplicas=20))
    before = [kube.one(kind, name) for kind, name in IN_SERVICE] + [kube.one("Deployment", f"colours-{first}")]
    tests = []

    def look(url: str):
        tests.append(url)
        if len(tests) > when:
            raise failure

    # A mistake in the code keeps its traceback; what the user can read and mend is the step's reason.
    expected = RolloutError if isinstance(failure, PipelineError) else type(failure)
    with pytest.raises(expected):
        put(models[1], replicas=1, look=look)
    after = [kube.one(kind, name) for kind, name in IN_SERVICE] + [kube.one("Deployment", f"colours-{first}")]
    assert [entry["spec"] for entry in after] == [entry["spec"] for entry in before]
    assert [note(entry) for entry in after] == [note(entry) for entry in before]
    assert replicas(kube) == {first: 3} and served(servers) == ["first"]


def test_a_step_that_is_told_to_stop_takes_back_what_it_has_begun(kube, servers, put, models):
    first, _, _ = put(models[0])
    with pytest.raises(RolloutError, match=f"was taken back: the step was told to stop; colours still serves {first}"):
        with deploy._interruptible():
            put(models[1], look=lambda url: os.kill(os.getpid(), signal.SIGTERM))
    assert replicas(kube) == {first: 1}


def test_what_a_killed_step_left_is_cleared_away(kube, servers, put, models):
    first, _, _ = put(models[0])
    around, left = objects.surroundings(step_pod(), [], own_account=True), version(models[0], "serve:2")
    kubernetes.connect().apply(objects.deployment("colours", left, models[0], "serve:2", 1, around))
    second, _, _ = put(models[1])
    assert replicas(kube) == {first: 0, left: 0, second: 1}
    assert rollback() == f"colours serves {first} again, instead of {second}"


IN_SERVICE = (("Service", "colours"), ("HorizontalPodAutoscaler", "colours"), ("PodDisruptionBudget", "colours"))


def note(entry: dict) -> dict:
    return entry["metadata"].get("annotations", {})


@pytest.mark.parametrize("when", [0, 1], ids=["before the switch", "after it"])
def test_of_a_first_version_that_fails_nothing_is_left(kube, servers, put, models, when):
    tests = []

    def look(url: str):
        tests.append(url)
        if len(tests) > when:
            raise smoke.SmokeTestError("no")

    with pytest.raises(RolloutError, match="was taken back: no; colours serves nothing"):
        put(models[0], look=look)
    kinds = ("Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget")
    assert [kube.all(kind) for kind in kinds] == [[], [], [], []]


def test_a_version_deployed_again_that_fails_keeps_its_old_form(kube, servers, put, models):
    first, _, _ = put(models[0], replicas=2)
    before = kube.one("Deployment", f"colours-{first}")["spec"]

    def look(url: str):
        raise smoke.SmokeTestError("no")

    with pytest.raises(RolloutError):
        put(models[0], replicas=4, look=look)
    assert kube.one("Deployment", f"colours-{first}")["spec"] == before
    assert served(servers) == ["first"] and autoscaler(kube) == (first, 2, 8)


def test_of_two_runs_that_deploy_at_once_the_later_one_gives_way(kube, servers, put, models):
    first, _, _ = put(models[0])

    def another_run(url: str):
        if url == servers.url(f"colours-{version(models[0], 'serve:2')}"):
            put(models[1])

    second = version(models[1])
    with pytest.raises(RolloutError, match=f"was taken back: .*; colours still serves {second}"):
        put(models[0], image="serve:2", look=another_run)
    assert served(servers) == ["second"] and autoscaler(kube) == (second, 1, 4)
    assert replicas(kube) == {first: 0, second: 1}


def test_what_was_tried_against_an_older_version_is_not_put_before_a_newer_one(kube, servers, put, models):
    put(models[0])
    rollout, now = Rollout(kubernetes.connect(), "colours", PATIENCE), version(models[0])
    with pytest.raises(RolloutError, match=f"another run has put {now} into service meanwhile: run this step again"):
        rollout._check_unchanged(objects.Versions(main="0123456789"))


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
    before = note(kube.one("Service", "colours"))
    put(models[1])
    assert note(kube.one("Service", "colours")) == before
    assert before["museum-classifier/previous"] == first
    assert replicas(kube) == {first: 0, second: 1}


def test_a_canary_gets_its_share_and_then_everything(kube, servers, put, models):
    first, _, _ = put(models[0])
    second, share, _ = put(models[1], canary=25)
    assert replicas(kube) == {first: 3, second: 1} and share.startswith("25% of the traffic (1 of 4 pods)")
    names = served(servers, 8)
    assert (names.count("first"), names.count("second")) == (6, 2)
    assert kube.one("HorizontalPodAutoscaler", "colours") is None
    assert put(models[1])[1] == "all of the traffic"
    assert replicas(kube) == {first: 0, second: 1} and autoscaler(kube) == (second, 1, 4)
    assert set(served(servers, 4)) == {"second"}
    rollback()
    assert replicas(kube) == {first: 1, second: 0}


def test_beside_a_canary_a_rollback_ends_the_canary_and_the_next_one_goes_back(kube, servers, put, models, capsys):
    oldest, _, _ = put(models[0], image="serve:0")
    first, _, _ = put(models[0], replicas=2)
    scaled_by_itself(kube, first, 3)
    second, _, _ = put(models[1], replicas=2, canary=10)
    assert replicas(kube) == {oldest: 0, first: 9, second: 1}
    # A canary of another share is measured by what was there before the first one.
    put(models[1], replicas=2, canary=50)
    assert replicas(kube) == {oldest: 0, first: 3, second: 3}
    assert f"the canary {second} ends, {first} has all of the traffic" in capsys.readouterr().out

    assert rollback() == f"colours serves {first} again, instead of {second}"
    assert replicas(kube) == {oldest: 0, first: 3, second: 0} and autoscaler(kube) == (first, 2, 8)
    assert set(served(servers, 4)) == {"first"}
    assert rollback() == f"colours serves {oldest} again, instead of {first}"
    assert replicas(kube) == {oldest: 3, first: 0, second: 0} and autoscaler(kube) == (oldest, 2, 8)


def test_a_canary_that_answers_wrongly_never_gets_traffic(kube, servers, put, models):
    first, _, _ = put(models[0], replicas=2)
    with pytest.raises(RolloutError, match=f"still serves {first}"):
        put(models[2], canary=25)
    assert replicas(kube) == {first: 2} and autoscaler(kube) == (first, 2, 8)
    assert set(served(servers, 4)) == {"first"}


def test_a_canary_that_does_not_become_the_main_version_loses_its_pods(kube, servers, put, models):
    first, _, _ = put(models[0])
    second, _, _ = put(models[1], canary=50)

    def look(url: str):
        raise smoke.SmokeTestError("no")

    with pytest.raises(RolloutError, match=f"still serves {first}"):
        put(models[1], look=look)
    assert replicas(kube) == {first: 1, second: 0} and autoscaler(kube) == (first, 1, 4)


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
    other, _, _ = put(models[1], replicas=2)
    assert replicas(kube) == {name: 0, other: 2}
    with pytest.raises(RolloutError, match=f"still serves {other}"):
        put(models[2])
    assert replicas(kube) == {name: 0, other: 2}


def test_another_service_of_that_name_is_left_alone(kube, put, models):
    kube.put(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "colours"}, "spec": {"selector": {"app": "x"}}}
    )
    with pytest.raises(RolloutError, match="another Service called colours"):
        put(models[0])
    assert kube.one("Service", "colours")["spec"]["selector"] == {"app": "x"}


def test_nothing_to_go_back_to(kube, servers, put, models):
    with pytest.raises(RolloutError, match="there is no service colours"):
        rollback()
    put(models[0])
    with pytest.raises(RolloutError, match="no previous version"):
        rollback()


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
    predictions = dataset_fixture.evaluate(data, classifier_dir, tmp_path / "predictions")
    uri, summary = f"{s3_bucket}/classifier", tmp_path / "summary.md"
    found = deploy.deploy(settings, data, classifier_dir, uri, predictions, str(summary))
    assert found.result.right == 6 and found.where == f"{servers.url('colours')}, with all of the traffic"
    assert "colours passed its smoke test" in summary.read_text()
    assert "| Test accuracy | 1.000 |" in summary.read_text()
    # museum-classifier-server is not there, so the pod has the step's own account, and still no token.
    pod = kube.all("Deployment")[0]["spec"]["template"]["spec"]
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("pipeline-runner", False)
    assert pod["containers"][0]["args"][-2:] == ["--test-accuracy", "1.0000"]


def test_a_model_on_a_local_disk_is_refused(kube, classifier_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    data = dataset_fixture.build(tmp_path / "data", examples=6)
    predictions = dataset_fixture.evaluate(data, classifier_dir, tmp_path / "predictions")
    settings = deploy.Settings("deployment", "colours", IMAGE, 1, 0)
    with pytest.raises(PipelineError, match="no other pod can read"):
        deploy.deploy(settings, data, classifier_dir, classifier_dir, predictions, str(tmp_path / "summary.md"))
