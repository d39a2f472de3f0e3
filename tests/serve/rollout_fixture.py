"""A cluster and models to roll out on it, for tests: fixtures, and what one looks at afterwards.

    from tests.serve.rollout_fixture import kube, models, put, questions, servers  # noqa: F401  pytest fixtures
"""

import json
import shutil
from pathlib import Path

import pytest

from components.serve import deploy, objects, smoke
from components.serve.objects import Model
from components.serve.rollout import Patience, Rollout
from components.shared import classifier, kubernetes
from tests.serve import dataset_fixture
from tests.serve.kube_servers import Servers
from tests.shared.kube_api import KubeApi
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
    """(version, fewest pods, most pods)."""
    spec = kube.one("HorizontalPodAutoscaler", "colours")["spec"]
    return spec["scaleTargetRef"]["name"].removeprefix("colours-"), spec["minReplicas"], spec["maxReplicas"]


def version(model: Model, image: str = IMAGE) -> str:
    return objects.version_of(model, image)


def replicas(kube) -> dict[str, int]:
    """Version -> pods that it is to have."""
    found = {entry["metadata"]["name"]: entry["spec"]["replicas"] for entry in kube.all("Deployment")}
    return {name.removeprefix("colours-"): number for name, number in found.items()}


def note(entry: dict) -> dict:
    """What the rollout has noted on an object."""
    return entry["metadata"].get("annotations", {})
