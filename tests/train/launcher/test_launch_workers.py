"""Several real workers: their numbers equal one worker's, and a killed one changes nothing."""

import io
import json
import os
import random
import signal
import zipfile
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest

from components.shared.storage import storage
from components.train.result import TrainingResult
from tests.fakes.kube_api import KubeApi
from tests.fakes.kube_jobs import KubeJobs
from tests.fakes.step_pod import IMAGE, NAME, SECRET, step_pod
from tests.helpers.launch_step import REPOSITORY, finish, start
from tests.helpers.stripes import write_dataset

# Two workers add their gradients in another order than one does: the last bits differ, and 40 steps carry them on.
# SGD, because Adam divides by the gradient's own size and so makes much of the last bits of small ones.
TOLERANCE = 1e-4
# A restart reads back what was written: the same sums in the same order.
RESTART_TOLERANCE = 1e-5
TRAINING = {
    "workers": 2, "epochs": 5, "batch_size": 32, "optimizer": "sgd", "learning_rate": 0.05, "checkpoint_every": 3,
}  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    """256 training pictures: 8 steps per epoch."""
    return write_dataset(tmp_path_factory.mktemp("data"), {"train": 256, "validation": 48, "test": 16}, shards=4)


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory) -> Path:
    """What two workers make of it in peace."""
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(start(folder, data, **TRAINING))
    return folder


def curve(folder: Path, name: str) -> np.ndarray:
    history = TrainingResult.load(str(folder / "classifier")).history
    return np.array([entry[name] for entry in history])


def weights(folder: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(folder / "classifier" / "model.keras") as archive:
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
            names: list[str] = []
            file.visit(names.append)
            found = {name: file[name][()] for name in names if isinstance(file[name], h5py.Dataset)}
    return found


def assert_same(one: Path, other: Path, tolerance: float) -> None:
    for name in ("loss", "validation_loss"):
        np.testing.assert_allclose(curve(one, name), curve(other, name), rtol=tolerance)
    mine, its = weights(one), weights(other)
    assert mine.keys() == its.keys() and len(mine) > 5
    largest = max(float(np.abs(mine[name] - its[name]).max()) for name in mine)
    assert largest <= tolerance, f"weights differ by up to {largest}"


def test_two_workers_reach_the_numbers_of_one(data, undisturbed, tmp_path):
    finish(start(tmp_path, data, **{**TRAINING, "workers": 1}))
    assert_same(undisturbed, tmp_path, TOLERANCE)


def test_nothing_is_left_behind(undisturbed):
    assert sorted(path.name for path in undisturbed.iterdir()) == [
        "classifier", "classifier-work", "curves.html", "leaderboard.html", "logs", "metrics.json",
    ]  # fmt: skip
    assert [path.name for path in (undisturbed / "classifier-work").rglob("*") if path.is_file()] == ["settings.json"]


def test_a_worker_killed_at_random_changes_nothing(data, undisturbed, tmp_path):
    checkpoints, victim = random.randint(1, 8), random.randint(0, 1)
    step = start(tmp_path, data, **TRAINING)
    killed = kill_after(step, tmp_path / "classifier-work" / "simple_cnn" / "checkpoints", checkpoints, victim)
    output = finish(step)
    told = f"worker {victim} was killed after {checkpoints} checkpoints, {killed}:\n{output}"
    assert "restart 1 of 3" in output, told
    assert json.loads((tmp_path / "metrics.json").read_text())["restarts"] == 1, told
    try:
        assert_same(undisturbed, tmp_path, RESTART_TOLERANCE)
    except AssertionError as error:
        raise AssertionError(told) from error


def kill_after(step, folder: Path, checkpoints: int, victim: int) -> str:
    """Sends SIGKILL to a worker of `step` when it has written so many checkpoints; returns the command it ran."""
    seen, last = 0, None
    while seen < checkpoints:
        assert step.poll() is None, step.stdout.read()
        written = folder / "last.npz"
        now = written.stat().st_mtime_ns if written.exists() else None
        seen, last = seen + (now != last), now
    workers = psutil.Process(step.pid).children()
    found = {json.loads(worker.environ()["TF_CONFIG"])["task"]["index"]: worker for worker in workers}
    found[victim].send_signal(signal.SIGKILL)
    return str(found[victim].pid)


@pytest.mark.parametrize(("workers", "tolerance"), [(1, TOLERANCE), (2, RESTART_TOLERANCE)])
def test_on_a_cluster_with_everything_in_the_store(data, undisturbed, s3_bucket, tmp_path, workers, tolerance):
    uri = f"{s3_bucket}/run/train/classifier"
    dataset_to_store(data, f"{s3_bucket}/data")
    store = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    with ExitStack() as stack:
        kube = stack.enter_context(KubeApi())
        jobs = stack.enter_context(KubeJobs(kube, tmp_path))
        jobs.images[IMAGE] = REPOSITORY
        kube.put({**SECRET, "stringData": {"key": store.pop("AWS_SECRET_ACCESS_KEY")}})
        kube.put(step_pod(store))
        environment = {
            "KUBECONFIG": kube.kubeconfig(tmp_path / "kubeconfig"),
            "KUBERNETES_SERVICE_HOST": "10.0.0.1",
            "KFP_POD_NAME": NAME,
        }
        changes = {**TRAINING, "workers": workers, "logs": f"{s3_bucket}/logs"}
        output = finish(start(tmp_path / "step", f"{s3_bucket}/data", uri, environment, **changes))
    assert "epoch 5 (all)" in output
    assert kube.all("Job") == [] and kube.all("Service") == []
    assert {"1", "model.keras", "model.tflite"} <= set(os.listdir(tmp_path / "step" / "classifier"))
    assert_same(undisturbed, tmp_path / "step", tolerance)
    left = [file.uri for file in storage.list_files(f"{uri}-work")]
    assert f"{uri}-work/simple_cnn/checkpoints/last.npz" in left, "a retry must find where it was"
    assert not [name for name in left if "/output/" in name], "copies of what the step has as its artifact"


def dataset_to_store(folder: str, uri: str) -> None:
    content = json.loads(Path(folder, "dataset.json").read_text())
    for split in content["splits"].values():
        for file in split["files"]:
            path, file["uri"] = file["uri"], f"{uri}/{os.path.basename(file['uri'])}"
            storage.upload(path, file["uri"])
    storage.upload(f"{folder}/examples.parquet", f"{uri}/examples.parquet")
    storage.write_bytes(f"{uri}/dataset.json", json.dumps(content).encode())
