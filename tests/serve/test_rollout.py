"""Deployment on a cluster: real server processes behind an API server that checks every object against the schemas."""

import json
import urllib.request

# Fixtures are imported, and tests have arguments of their names.
import pytest

from cli.main import main
from components.serve import deploy, objects
from components.serve.deployment import Settings
from components.serve.objects import Model
from components.serve.rollout import RolloutError
from components.shared.errors import PipelineError
from tests.fakes.step_pod import step_pod
from tests.helpers import colour_dataset
from tests.helpers.rollouts import IMAGE, autoscaler, note, replicas, rollback, scaled_by_itself, served, version


def test_a_first_version(kube, servers, put, models):
    name, share, result = put(models[0], replicas=2)
    assert (name, share, result.right) == (version(models[0]), "all of the traffic", 6)
    assert kube.one("Service", "colours")["spec"]["selector"] == {
        "museum-classifier/service": "colours",
        "museum-classifier/version": name,
    }
    assert autoscaler(kube) == (name, 2, 8)
    assert kube.one("PodDisruptionBudget", "colours")["spec"]["maxUnavailable"] == 1


def test_a_version_begins_with_what_the_server_calls_its_model(servers, put, models):
    name, _, _ = put(models[0])
    with urllib.request.urlopen(f"{servers.url('colours')}/v1/models/colours/histogram") as answer:
        assert json.load(answer)["version"] == name.partition("-")[0]
    assert name != objects.version_of(models[0], "another-image") != objects.version_of(models[1], "another-image")


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
    inherited = objects.inherited(step_pod(values), [], own_account=True)
    assert [entry["name"] for entry in inherited.environment] == ["AWS_SECRET_ACCESS_KEY", "AWS_REGION"]


def test_the_image_is_pulled_as_the_steps_own():
    pod = step_pod()
    pod["spec"]["containers"][1]["imagePullPolicy"] = "Never"
    inherited = objects.inherited(pod, [], own_account=True)
    assert objects.container("colours", Model("s3://b/m", "0" * 64), IMAGE, inherited)["imagePullPolicy"] == "Never"


def test_it_scales_before_a_pod_lacks_cpu():
    """The target is below the CPU request, or else a full node would keep it from ever being reached."""
    spec = objects.autoscaler("colours", "v", 1)["spec"]
    inherited = objects.inherited(step_pod(), [], own_account=True)
    container = objects.container("colours", Model("s3://b/m", "0" * 64), IMAGE, inherited)
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
    error = capsys.readouterr().err
    assert error.startswith("error: there is no service colors in namespace kubeflow; known here: colours (")
    assert main(["rollback", "colours", "--kubeconfig", str(tmp_path / "none")]) != 0
    assert capsys.readouterr().err.startswith("error: no Kubernetes cluster to talk to: ")


def test_people_never_reach_a_version_before_it_is_tried(kube, servers, put, models):
    """The public Service leads to the old version for as long as the new one is being tried."""
    first, _, _ = put(models[0])
    seen = []

    def look(url: str):
        seen.append(kube.one("Service", "colours")["spec"]["selector"].get("museum-classifier/version"))

    second, _, _ = put(models[1], look=look)
    assert seen == [first, second]


@pytest.mark.slow
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


@pytest.mark.slow
def test_deploying_the_same_again_changes_nothing(kube, servers, put, models):
    first, _, _ = put(models[0])
    second, _, _ = put(models[1])
    before = note(kube.one("Service", "colours"))
    put(models[1])
    assert note(kube.one("Service", "colours")) == before
    assert before["museum-classifier/previous"] == first
    assert replicas(kube) == {first: 0, second: 1}


@pytest.mark.slow
def test_old_versions_go_in_the_end(kube, servers, put, models):
    made = [put(models[0], image=f"serve:{number}")[0] for number in range(6)]
    assert set(replicas(kube)) == set(made[-4:])
    assert len(kube.all("Service")) == 5


@pytest.mark.slow
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


def test_the_whole_step_in_a_pod(kube, servers, classifier_dir, tmp_path, monkeypatch, s3_bucket):
    """deploy() as the component calls it: the server reads the model from the store, by its URI and checksum."""
    from components.shared.storage import storage

    storage.mirror(classifier_dir, f"{s3_bucket}/classifier")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    settings = Settings("deployment", "colours", IMAGE, 1, 0)
    data = colour_dataset.build(tmp_path / "data", examples=6)
    summary, uri = tmp_path / "summary.md", f"{s3_bucket}/classifier"
    predictions = colour_dataset.evaluate(data, classifier_dir, tmp_path / "predictions", uri=uri)
    found = deploy.deploy(settings, data, predictions, str(summary))
    assert found.result.right == 6 and found.where == f"{servers.url('colours')}, with all of the traffic"
    assert "colours passed its smoke test" in summary.read_text()
    assert "| Test accuracy | 1.000 |" in summary.read_text()
    # museum-classifier-server is not there, so the pod has the step's own account, and still no token.
    pod = kube.all("Deployment")[0]["spec"]["template"]["spec"]
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("pipeline-runner", False)
    assert pod["containers"][0]["args"][-2:] == ["--test-accuracy", "1.0000"]


def test_a_model_on_a_local_disk_is_refused(kube, classifier_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    data = colour_dataset.build(tmp_path / "data", examples=6)
    predictions = colour_dataset.evaluate(data, classifier_dir, tmp_path / "predictions")
    settings = Settings("deployment", "colours", IMAGE, 1, 0)
    with pytest.raises(PipelineError, match="no other pod can read"):
        deploy.deploy(settings, data, predictions, str(tmp_path / "summary.md"))
