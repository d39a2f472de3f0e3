"""Several models in one run, by workers that only play their part."""

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from components.shared.errors import PipelineError
from components.train.launcher import launch as launcher
from components.train.launcher.cluster_workers import Timeouts
from tests.fakes.kube_api import KubeApi
from tests.fakes.kube_jobs import KubeJobs
from tests.fakes.step_pod import IMAGE, NAME, SECRET, step_pod
from tests.helpers import colour_model
from tests.helpers.train_settings import NO_RESOURCES, settings

WORKER_IMAGE = Path(__file__).parents[2] / "fakes" / "worker_image"
MODELS = "mobilenet_v2,vgg16,simple_cnn"


@pytest.fixture(scope="module")
def tflite(tmp_path_factory) -> str:
    return f"{colour_model.build(tmp_path_factory.mktemp('model'), saved_model=False)}/model.tflite"


@pytest.fixture(params=["processes", "pods"])
def play(request, monkeypatch, tmp_path, tflite, dataset):
    """Launches `model`; workers are processes of this machine, or pods of a cluster."""
    with ExitStack() as stack:
        variables = {"PLAY": "export", "TFLITE": tflite}
        if request.param == "pods":
            kube = stack.enter_context(KubeApi())
            jobs = stack.enter_context(KubeJobs(kube, tmp_path))
            jobs.images[IMAGE] = WORKER_IMAGE
            monkeypatch.setenv("KUBECONFIG", kube.kubeconfig(tmp_path / "kubeconfig"))
            monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
            monkeypatch.setenv("KFP_POD_NAME", NAME)
            monkeypatch.setattr(launcher, "TIMEOUTS", Timeouts(poll=0.05))
            kube.put(SECRET)

        def run(model: str, accuracies: dict[str, float]):
            given = {**variables, "ACCURACIES": json.dumps(accuracies)}
            if request.param == "pods":
                kube.put(step_pod(given))
            for name, value in given.items():
                monkeypatch.setenv(name, value)
            monkeypatch.chdir(WORKER_IMAGE)
            path = str(tmp_path / "classifier")
            pages = [str(tmp_path / name) for name in ("curves.html", "leaderboard.html")]
            return launcher.launch(
                settings(model=model, workers=2), dataset, "data", path, path, *pages, resources=NO_RESOURCES
            )

        yield run


def test_the_best_goes_on_and_the_leaderboard_has_all(play, tmp_path):
    summary = play(MODELS, {"mobilenet_v2": 0.8, "vgg16": 0.9, "simple_cnn": 0.7})
    assert summary.result.model == "vgg16" and "vgg16: validation accuracy 0.9000" in str(summary)
    assert json.loads((tmp_path / "classifier" / "result.json").read_text())["model"] == "vgg16"
    assert summary.metrics()["validation_accuracy_simple_cnn"] == 0.7
    assert summary.metadata()["model"] == "vgg16"
    page = (tmp_path / "leaderboard.html").read_text()
    assert page.index(">vgg16<") < page.index(">mobilenet_v2<") < page.index(">simple_cnn<")
    assert "vgg16" in (tmp_path / "curves.html").read_text()


def test_a_model_that_fails_does_not_take_the_others_with_it(play, tmp_path):
    summary = play(MODELS, {"mobilenet_v2": 0.8, "simple_cnn": 0.7})
    assert summary.result.model == "mobilenet_v2"
    assert "vgg16 could not be trained: out of memory" in (tmp_path / "leaderboard.html").read_text()


def test_that_all_fail_is_an_error(play):
    with pytest.raises(PipelineError, match="^out of memory$"):
        play(MODELS, {})


def test_a_single_model_has_a_leaderboard_too(play, tmp_path):
    summary = play("simple_cnn", {"simple_cnn": 0.7})
    assert "validation_accuracy_simple_cnn" not in summary.metrics()
    assert "simple_cnn goes on" in (tmp_path / "leaderboard.html").read_text()


@pytest.fixture
def kfp(monkeypatch, tmp_path, tflite, dataset):
    """The cluster of a step that trains a model with one worker, and how to run it: run(name of the run) -> outputs."""
    with KubeApi() as kube, KubeJobs(kube, tmp_path) as jobs:
        jobs.images[IMAGE] = WORKER_IMAGE
        monkeypatch.setenv("KUBECONFIG", kube.kubeconfig(tmp_path / "kubeconfig"))
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
        monkeypatch.setenv("KFP_POD_NAME", NAME)
        monkeypatch.setattr(launcher, "TIMEOUTS", Timeouts(poll=0.05))
        kube.put(SECRET)
        kube.put(step_pod({"PLAY": "export", "TFLITE": tflite, "ACCURACIES": '{"simple_cnn": 0.5}'}))

        def run(name: str):
            (tmp_path / name).mkdir()
            outputs = [str(tmp_path / name / part) for part in ("classifier", "classifier", "curves", "board")]
            launcher.launch(settings(logs="s3://bucket/logs"), dataset, "data", *outputs, resources=NO_RESOURCES)
            return tmp_path / name

        yield kube, jobs, run


def test_a_step_of_kfp_trains_in_a_job_also_with_one_worker(kfp):
    kube, jobs, run = kfp
    folder = run("first")
    assert (folder / "classifier" / "model.tflite").exists()
    (pod,) = jobs.environments
    assert pod.startswith("train-simple-cnn-") and "TF_CONFIG" not in jobs.environments[pod]
    assert not kube.all("Job") and not kube.all("Service")


def test_two_runs_that_share_a_log_uri_write_to_folders_of_their_own(kfp):
    """KFP takes the tensorboard step of the second run from its cache, and with it the URI of the first run's logs."""
    _, _, run = kfp
    logs = []
    for name in ("first", "second"):
        folder = run(name)
        logs.append(json.loads((folder / "classifier-work/simple_cnn/settings.json").read_text())["logs"])
    assert len(set(logs)) == 2 and all(uri.startswith("s3://bucket/logs/") for uri in logs)


def test_a_notebook_in_a_cluster_trains_in_processes(monkeypatch, tmp_path, tflite, dataset):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.delenv("KFP_POD_NAME", raising=False)
    for name, value in {"PLAY": "export", "TFLITE": tflite, "ACCURACIES": '{"simple_cnn": 0.5}'}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(WORKER_IMAGE)
    outputs = [str(tmp_path / part) for part in ("classifier", "classifier", "curves", "board")]
    assert (
        launcher.launch(settings(workers=2), dataset, "data", *outputs, resources=NO_RESOURCES).result.model
        == "simple_cnn"
    )
