"""serving=kserve: what is written, and what happens when KServe says ready, not ready, or the answers are wrong."""

import json
import shutil
from pathlib import Path

import pytest

from components.serve import deploy, local, objects, smoke
from components.serve.kserve import KIND, KServe
from components.serve.objects import Model
from components.serve.rollout import Patience, RolloutError
from components.shared import classifier, kubernetes
from tests.serve import dataset_fixture
from tests.shared.kube_api import KubeApi, Object
from tests.train.step_pod import step_pod

IMAGE = "serve:1"
PATIENCE = Patience(poll=0.02, ready=1)


@pytest.fixture(scope="module")
def models(classifier_dir, tmp_path_factory):
    """Two models with a server each: (model, URL); the second server has the labels in the wrong order."""
    good = Model(classifier_dir, classifier.digest(classifier_dir))
    folder = Path(shutil.copytree(classifier_dir, tmp_path_factory.mktemp("wrong") / "model"))
    card = json.loads((folder / "model_card.json").read_text()) | {"labels": ["blue", "red", "green"]}
    (folder / "model_card.json").write_text(json.dumps(card))
    (folder / "labels.txt").write_text("blue\nred\ngreen\n")
    wrong = Model(str(folder), classifier.digest(str(folder)))
    options = ("--workers", "1", "--name", "colours")
    with local.running_server(good.uri, *options) as one, local.running_server(wrong.uri, *options) as two:
        yield (good, one), (wrong, two)


@pytest.fixture
def kube(monkeypatch, tmp_path, models):
    """An API server on which KServe's controller is played: each predictor is ready at its model's server."""
    addresses = {model.uri: url for model, url in models}
    with KubeApi() as kube:

        def controller(event: str, live: Object) -> None:
            generation = live["metadata"]["generation"]
            if (
                live["kind"] != KIND[1]
                or event == "DELETED"
                or live.get("status", {}).get("observedGeneration") == generation
            ):
                return
            arguments = live["spec"]["predictor"]["containers"][0]["args"]
            url = addresses.get(arguments[arguments.index("--model") + 1])
            ready = {"type": "Ready", "status": "True" if url else "False", "message": "the model cannot be loaded"}
            status = {"observedGeneration": generation, "conditions": [ready], "address": {"url": url}}
            if "canaryTrafficPercent" in live["spec"]["predictor"]:
                # The common address leads to the former revision mostly: the test must not end up there.
                assert live["metadata"]["annotations"]["serving.kserve.io/enable-tag-routing"] == "true"
                traffic = [
                    {"latestRevision": False, "percent": 90},
                    {"latestRevision": True, "percent": 10, "url": url},
                ]
                status |= {"address": {"url": "http://127.0.0.1:1"}, "components": {"predictor": {"traffic": traffic}}}
            kube.change(KIND[1], live["metadata"]["name"], lambda obj: obj.update(status=status))

        kube.controllers.append(controller)
        monkeypatch.setenv("KUBECONFIG", kube.kubeconfig(tmp_path / "kubeconfig"))
        yield kube


@pytest.fixture
def put(kube, tmp_path):
    """Deploys a model by KServe."""
    examples = smoke.choose_pictures(dataset_fixture.build(tmp_path / "data", examples=6))

    def put(model: Model, canary: int = 0, image: str = IMAGE):
        around = objects.surroundings(step_pod(), [], own_account=True)
        return KServe(kubernetes.connect(), "colours", PATIENCE).deploy(
            model, image, 2, canary, around, lambda url: smoke.smoke_test(url, examples, model.digest, 0.94)
        )

    return put


def predictor(kube) -> Object:
    return kube.one("InferenceService", "colours")["spec"]["predictor"]


def test_the_predictor_is_our_server(kube, put, models):
    _, share, result = put(models[0][0])
    assert (share, result.right) == ("all of the traffic", 6)
    found = predictor(kube)
    [container] = found["containers"]
    assert container["name"] == "kserve-container" and container["image"] == IMAGE
    assert (found["minReplicas"], found["maxReplicas"]) == (2, 8)
    assert container["securityContext"]["readOnlyRootFilesystem"] is True and "canaryTrafficPercent" not in found


def test_wrong_answers_bring_the_former_predictor_back(kube, put, models):
    put(models[0][0])
    before = predictor(kube)
    with pytest.raises(RolloutError, match="right for 0 of 6"):
        put(models[1][0])
    assert predictor(kube) == before


def test_a_first_one_that_fails_is_deleted(kube, put):
    with pytest.raises(RolloutError, match="not ready: Ready: the model cannot be loaded"):
        put(Model("s3://nowhere/model", "0" * 64))
    assert kube.one("InferenceService", "colours") is None


def test_a_canary_is_kserves_own(kube, put, models):
    put(models[0][0])
    _, share, _ = put(models[0][0], canary=10, image="serve:2")
    assert share == "10% of the traffic" and predictor(kube)["canaryTrafficPercent"] == 10
    put(models[0][0], image="serve:2")
    assert "canaryTrafficPercent" not in predictor(kube)


def test_rollback(kube, put, models):
    put(models[0][0])
    with pytest.raises(RolloutError, match="no previous version"):
        deploy.rollback("kserve", "colours", PATIENCE)
    put(models[0][0], image="serve:2")
    deploy.rollback("kserve", "colours", PATIENCE)
    assert predictor(kube)["containers"][0]["image"] == IMAGE
    deploy.rollback("kserve", "colours", PATIENCE)
    assert predictor(kube)["containers"][0]["image"] == "serve:2"
