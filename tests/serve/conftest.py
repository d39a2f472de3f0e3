"""A cluster, and models to roll out on it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from components.artifacts import classifier
from components.serve import objects, smoke
from components.serve.objects import Model
from components.serve.rollout import Rollout
from components.shared import kubernetes
from tests.fakes.kube_api import KubeApi
from tests.fakes.kube_servers import Servers
from tests.fakes.step_pod import step_pod
from tests.helpers import colour_dataset
from tests.helpers.rollouts import IMAGE, TIMEOUTS


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
    data = colour_dataset.build(tmp_path / "data", examples=6)
    return smoke.choose_questions(data, colour_dataset.evaluate(data, classifier_dir, tmp_path / "predictions"))


@pytest.fixture
def put(kube, servers, questions):
    """Deploys a model; `look` is called with the URL before each smoke test."""

    def put(model: Model, replicas: int = 1, canary: int = 0, image: str = IMAGE, look=lambda url: None, created=""):
        def smoke_test(url: str) -> smoke.SmokeResult:
            look(url)
            return smoke.try_service(url, questions, model.digest, seconds=30, pause=0.01)

        inherited = replace(objects.inherited(step_pod(), [], own_account=True), created=created)
        rollout = Rollout(kubernetes.connect(), "colours", TIMEOUTS)
        return rollout.deploy(model, image, replicas, canary, inherited, smoke_test)

    return put
