"""serve_kind=kserve: what is written, and what happens on Knative and in raw mode, in good cases and bad ones."""

import json
import shutil
from pathlib import Path

import pytest

from components.artifacts import classifier
from components.evaluate import champion
from components.serve import kserve, local, objects, services, smoke
from components.serve.kserve import KServe
from components.serve.objects import Model
from components.serve.rollout import RolloutError, Timeouts
from components.shared import kubernetes
from tests.fakes import knative
from tests.fakes.kserve_controller import Controller
from tests.fakes.kube_api import KubeApi
from tests.fakes.kube_objects import Object
from tests.fakes.step_pod import step_pod
from tests.helpers import colour_dataset

IMAGE = "serve:1"
TIMEOUTS = Timeouts(poll=0.02, ready=2)


@pytest.fixture(scope="module")
def models(classifier_dir, tmp_path_factory):
    """Three models with a server each: (model, URL); the third has the labels in the wrong order."""
    folders = []
    for name in ("good", "other", "wrong"):
        folder = Path(shutil.copytree(classifier_dir, tmp_path_factory.mktemp(name) / "model"))
        card = json.loads((folder / "model_card.json").read_text()) | {"name": name}
        if name == "wrong":
            card["labels"] = ["blue", "red", "green"]
            (folder / "labels.txt").write_text("blue\nred\ngreen\n")
        (folder / "model_card.json").write_text(json.dumps(card))
        folders.append(str(folder))
    found = [Model(folder, classifier.digest(folder)) for folder in folders]
    options = ("--workers", "1", "--name", "colours")
    with (
        local.running_server(found[0].uri, *options) as one,
        local.running_server(found[1].uri, *options) as two,
        local.running_server(found[2].uri, *options) as three,
    ):
        yield list(zip(found, (one, two, three)))


@pytest.fixture
def kube(monkeypatch, tmp_path):
    with KubeApi() as kube:
        monkeypatch.setenv("KUBECONFIG", kube.kubeconfig(tmp_path / "kubeconfig"))
        yield kube


@pytest.fixture(params=[False, True], ids=["knative", "raw"])
def controller(request, kube, models):
    with Controller(kube, {model.uri: url for model, url in models}, raw=request.param) as controller:
        yield controller


@pytest.fixture
def knative_only(kube, models):
    with Controller(kube, {model.uri: url for model, url in models}) as controller:
        yield controller


@pytest.fixture
def questions(tmp_path, classifier_dir):
    data = colour_dataset.build(tmp_path / "data", examples=6)
    return smoke.choose_questions(data, colour_dataset.evaluate(data, classifier_dir, tmp_path / "predictions"))


def inherited() -> objects.Inherited:
    return objects.inherited(step_pod(), [], own_account=True)


def put(controller: Controller, questions, model: Model, canary: int = 0, image: str = IMAGE, look=lambda url: None):
    """Deploys a model by KServe."""

    def smoke_test(url: str) -> smoke.SmokeResult:
        look(url)
        return smoke.try_service(controller.reach(url), questions, model.digest, pause=0.01)

    service = KServe(kubernetes.connect(), "colours", timeouts=TIMEOUTS)
    return service.deploy(model, image, 2, canary, inherited(), smoke_test)


def rollback() -> str:
    return services.rollback(kubernetes.connect(), "colours", timeouts=TIMEOUTS)


def predictor(kube) -> Object:
    return kube.one("InferenceService", "colours")["spec"]["predictor"]


def test_the_predictor_is_our_server(kube, controller, questions, models):
    _, share, result = put(controller, questions, models[0][0])
    assert (share, result.right) == ("all of the traffic", 6)
    found = predictor(kube)
    [container] = found["containers"]
    assert container["name"] == "kserve-container" and container["image"] == IMAGE
    assert (found["minReplicas"], found["maxReplicas"]) == (2, 8)
    assert container["securityContext"]["readOnlyRootFilesystem"] is True and "canaryTrafficPercent" not in found
    assert found["imagePullSecrets"] == [{"name": "registry"}] and "tolerations" not in found
    assert KServe(kubernetes.connect(), "colours").public_url.endswith(".kubeflow.svc.cluster.local")


def test_the_webhook_takes_the_predictor_and_not_our_own_pod():
    """So that the stand-in for the webhook is known to refuse something."""
    model = Model("s3://bucket/model", "1" * 64)
    assert knative.refusals(kserve.predictor("colours", model, IMAGE, 1, inherited())) == []
    pod = objects.pod_spec("colours", model, IMAGE, inherited(), {})
    refused = " ".join(knative.refusals(pod))
    for word in ("terminationGracePeriodSeconds", "topologySpreadConstraints", "lifecycle", "Port name http"):
        assert word in refused


def test_a_second_version_gets_no_traffic_before_it_was_tried(kube, knative_only, questions, models):
    put(knative_only, questions, models[0][0])
    seen = []

    def look(url: str):
        seen.append((url.partition(".")[0].removeprefix("http://"), list(knative_only.split)))

    put(knative_only, questions, models[1][0], look=look)
    first, second = "colours-predictor-00001", "colours-predictor-00002"
    assert seen == [(second, [(second, 0), (first, 100)]), ("colours", [(second, 100)])]
    assert knative_only.model(second) == models[1][0].uri


def test_a_cluster_that_learns_late_where_the_traffic_goes(kube, controller, questions, models):
    controller.late = 2
    put(controller, questions, models[0][0])
    put(controller, questions, models[1][0])
    assert predictor(kube)["containers"][0]["args"][1] == models[1][0].uri


def test_wrong_answers_bring_the_former_predictor_back(kube, controller, questions, models):
    put(controller, questions, models[0][0])
    before = predictor(kube)
    with pytest.raises(RolloutError, match="for 6 of 6 test pictures"):
        put(controller, questions, models[2][0])
    assert predictor(kube) == before
    assert controller.model(controller.split[0][0]) == models[0][0].uri and controller.split[0][1] == 100


def test_a_mistake_in_the_code_brings_it_back_too(kube, controller, questions, models):
    put(controller, questions, models[0][0])
    before = predictor(kube)

    def look(url: str):
        raise KeyError(url)

    with pytest.raises(KeyError):
        put(controller, questions, models[1][0], look=look)
    assert predictor(kube) == before


def test_a_first_one_that_fails_is_deleted(kube, controller, questions):
    with pytest.raises(RolloutError, match="is not ready: pod colours-predictor-00001-0 is not ready: it printed"):
        put(controller, questions, Model("s3://nowhere/model", "0" * 64))
    assert kube.one("InferenceService", "colours") is None


def test_a_second_one_that_does_not_start_fails_although_kserve_says_ready(kube, controller, questions, models):
    put(controller, questions, models[0][0])
    with pytest.raises(RolloutError, match="is not ready"):
        put(controller, questions, Model("s3://nowhere/model", "0" * 64))
    assert kube.one("InferenceService", "colours")["status"]["conditions"][0]["status"] == "True"
    assert predictor(kube)["containers"][0]["args"][1] == models[0][0].uri


def test_what_knative_refuses_is_the_reason(kube, knative_only, questions, models, monkeypatch):
    monkeypatch.setattr(knative, "_PORT_NAMES", ())
    with pytest.raises(RolloutError, match="is not ready: InternalError: admission webhook .*Port name http1 is"):
        put(knative_only, questions, models[0][0])


def test_a_canary_is_kserves_own(kube, knative_only, questions, models):
    put(knative_only, questions, models[0][0])
    _, share, _ = put(knative_only, questions, models[1][0], canary=10)
    assert share == "10% of the traffic" and predictor(kube)["canaryTrafficPercent"] == 10
    first, second = "colours-predictor-00001", "colours-predictor-00002"
    assert knative_only.split == [(second, 10), (first, 90)]
    put(knative_only, questions, models[1][0])
    assert "canaryTrafficPercent" not in predictor(kube) and knative_only.split == [(second, 100)]


def test_rollback(kube, controller, questions, models):
    put(controller, questions, models[0][0])
    with pytest.raises(RolloutError, match="no previous version"):
        rollback()
    put(controller, questions, models[0][0], image="serve:2")
    rollback()
    assert predictor(kube)["containers"][0]["image"] == IMAGE
    # The gate still finds the champion, and a second rollback undoes the first.
    assert champion.resolve("service:colours") == models[0][0].uri
    rollback()
    assert predictor(kube)["containers"][0]["image"] == "serve:2"


def test_a_rollback_to_what_does_not_start_any_more_changes_nothing(kube, controller, questions, models):
    put(controller, questions, models[0][0])
    put(controller, questions, models[1][0])
    before = predictor(kube)
    del controller.addresses[models[0][0].uri]
    with pytest.raises(RolloutError, match="does not start"):
        rollback()
    assert predictor(kube) == before


def test_beside_a_canary_a_rollback_ends_the_canary_and_the_next_one_goes_back(kube, knative_only, questions, models):
    put(knative_only, questions, models[0][0], image="serve:0")
    put(knative_only, questions, models[0][0])
    put(knative_only, questions, models[1][0], canary=10)
    rollback()
    assert predictor(kube)["containers"][0]["image"] == IMAGE and "canaryTrafficPercent" not in predictor(kube)
    rollback()
    assert predictor(kube)["containers"][0]["image"] == "serve:0"


def test_a_service_of_our_own_kind_is_left_alone(kube, controller, questions, models):
    kubernetes.connect().apply(objects.public_service("colours", objects.Versions(main="0123456789")))
    with pytest.raises(RolloutError, match="in service by serve_kind=deployment: choose another"):
        put(controller, questions, models[0][0])
