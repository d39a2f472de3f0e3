"""Workers as processes: two that equal one, and trainings that are killed and go on."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.train.result import TrainingResult

EPOCHS, STEPS = 3, 10  # 150 examples in batches of 16
# Sums in another order: this is what is left of one worker's loss, relatively, after 30 steps on two.
TOLERANCE = 2e-3


class Worker:
    """A `python -m components.train.worker` process; its log is read line by line."""

    def __init__(self, folder: Path, dataset: str, settings, addresses: list[str] = (), index: int = 0) -> None:
        settings.save(str(folder / "settings.json"))
        environment = {**os.environ, "PROGRESS_SECONDS": "0", "CUDA_VISIBLE_DEVICES": ""}
        if addresses:
            cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            environment["TF_CONFIG"] = json.dumps(cluster)
        self.output = folder / f"output-{index}"
        arguments = {
            "settings": folder / "settings.json", "dataset": dataset, "output": self.output,
            "checkpoints": folder / "checkpoints",
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "components.train.worker", *(f"--{key}={it}" for key, it in arguments.items())],
            env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.lines: list[str] = []

    def until_step(self, step: int) -> None:
        """Reads the log until `step` steps of this attempt are done."""
        for line in self.process.stdout:
            self.lines.append(line)
            done = re.match(r"progress: (\d+)/\d+ steps", line)
            if done and int(done[1]) >= step:
                return
        raise AssertionError("the worker ended early:\n" + "".join(self.lines))

    def end(self) -> int:
        """Reads the rest of the log; returns the exit status."""
        self.lines += self.process.stdout.readlines()
        return self.process.wait()

    def log(self) -> str:
        return "".join(self.lines)


def history(result: TrainingResult, name: str) -> list[float]:
    return [entry[name] for entry in result.history]


def free_addresses(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    return addresses


@pytest.fixture(scope="module")
def undisturbed(dataset, tmp_path_factory) -> TrainingResult:
    from components.train.worker import training
    from tests.helpers.train_settings import settings

    folder = tmp_path_factory.mktemp("undisturbed")
    chosen = settings(epochs=EPOCHS, logs=str(folder / "logs"), augmentation="light", learning_rate=0.003)
    return training.run(chosen, dataset, str(folder / "output"), str(folder / "checkpoints"))


@pytest.mark.slow
def test_two_workers_that_are_preempted_equal_one_that_is_not(undisturbed, make_settings, dataset, tmp_path):
    settings = make_settings(epochs=EPOCHS, workers=2, augmentation="light")
    addresses = free_addresses(2)
    workers = [Worker(tmp_path, dataset, settings, addresses, index) for index in range(2)]
    workers[0].until_step(12)
    # Only one pod is told that it must go; both stop at the same step.
    workers[1].process.send_signal(signal.SIGTERM)
    statuses = [worker.end() for worker in workers]
    assert statuses == [os.EX_TEMPFAIL] * 2, workers[0].log() + workers[1].log()
    stopped = [re.search(r"preempted: stopped at step (\d+)", worker.log())[1] for worker in workers]
    assert stopped[0] == stopped[1] and int(stopped[0]) < EPOCHS * STEPS

    addresses = free_addresses(2)
    workers = [Worker(tmp_path, dataset, settings, addresses, index) for index in range(2)]
    assert [worker.end() for worker in workers] == [0, 0], workers[0].log() + workers[1].log()
    assert f"continuing at step {stopped[0]}" in workers[1].log()
    result = TrainingResult.load(str(workers[0].output))
    for name in ("loss", "validation_loss"):
        assert history(result, name) == pytest.approx(history(undisturbed, name), rel=TOLERANCE)
    assert not (workers[1].output / "result.json").exists()


@pytest.mark.slow
def test_killed_training_ends_with_the_curve_of_an_undisturbed_one(undisturbed, make_settings, dataset, tmp_path):
    settings = make_settings(epochs=EPOCHS, augmentation="light", checkpoint_every=4)
    seed = random.randrange(1 << 30)
    killed_at, stopped_at = random.Random(seed).sample(range(1, 13), 2)
    print(f"seed {seed}: kill -9 after {killed_at} steps, SIGTERM {stopped_at} steps later")
    first = Worker(tmp_path, dataset, settings)
    first.until_step(killed_at)
    first.process.kill()
    assert first.end() == -signal.SIGKILL

    second = Worker(tmp_path, dataset, settings)
    second.until_step(stopped_at)
    second.process.terminate()
    assert second.end() == os.EX_TEMPFAIL, second.log()
    continued = re.search(r"continuing at step (\d+)", second.log())
    assert killed_at - (int(continued[1]) if continued else 0) < 4 + 1, "more than checkpoint_every steps were lost"

    third = Worker(tmp_path, dataset, settings)
    assert third.end() == 0, third.log()
    result = TrainingResult.load(str(third.output))
    for name in ("loss", "accuracy", "validation_loss"):
        assert history(result, name) == pytest.approx(history(undisturbed, name), rel=1e-4)


def test_user_error_is_one_line(make_settings, tmp_path):
    worker = Worker(tmp_path, str(tmp_path / "nowhere"), make_settings())
    assert worker.end() == 1
    assert worker.lines[-1].startswith("error: cannot read") and "Traceback" not in worker.log()


@pytest.mark.slow
def test_stopped_while_tensorflow_is_imported(make_settings, dataset, tmp_path):
    worker = Worker(tmp_path, dataset, make_settings())
    # Nothing is printed before: the process's own memory map says when the import has begun, and is polled.
    maps, deadline = Path(f"/proc/{worker.process.pid}/maps"), time.monotonic() + 60
    while "libtensorflow" not in maps.read_text():
        assert time.monotonic() < deadline and worker.process.poll() is None
        time.sleep(0.01)
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == os.EX_TEMPFAIL, worker.log()
    # Python looks at signals between two of its own instructions: it may be as late as in the first step's.
    assert worker.lines[-1].startswith("preempted: stopped ") and "nothing is lost" in worker.lines[-1]


@pytest.mark.slow
def test_onednn_bf16_multiplies_in_bfloat16(make_settings, dataset, tmp_path, monkeypatch):
    monkeypatch.delenv("ONEDNN_DEFAULT_FPMATH_MODE", raising=False)
    monkeypatch.setenv("ONEDNN_VERBOSE", "1")  # oneDNN tells each operation and how it may calculate
    worker = Worker(tmp_path, dataset, make_settings(epochs=1, precision="onednn_bf16"))
    assert worker.end() == 0, worker.log()[-3000:]
    convolutions = [line for line in worker.lines if "exec,cpu,convolution" in line]
    assert convolutions and all("attr-fpmath:bf16" in line for line in convolutions)


@pytest.mark.slow
def test_two_workers_fit_the_head_of_one(make_settings, weights, dataset, tmp_path):
    import keras
    import numpy as np

    heads = []
    for count in (1, 2):
        folder = tmp_path / str(count)
        folder.mkdir()
        settings = make_settings(model="mobilenet_025", weights=weights, head="regression", workers=count)
        addresses = free_addresses(2) if count == 2 else []
        workers = [Worker(folder, dataset, settings, addresses, index) for index in range(count)]
        assert [worker.end() for worker in workers] == [0] * count, workers[0].log()
        model = keras.models.load_model(folder / "output-0" / "model.keras")
        heads.append(np.concatenate([weight.ravel() for weight in model.layers[-1].get_weights()]))
        card = json.loads((folder / "output-0" / "model_card.json").read_text())
        heads.append((card["head"], card["view"]))
    assert heads[1] == heads[3]
    # One worker computes features by LiteRT, two by TensorFlow.
    assert heads[2] == pytest.approx(heads[0], abs=1e-4 * float(np.abs(heads[0]).max()))
