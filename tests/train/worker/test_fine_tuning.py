"""Trainings of two phases (head, then fine-tuning) that are interrupted, or stopped early, in or between the phases."""

import functools
import json

import numpy as np
import pytest

from components.train.worker import training
from components.train.worker.checkpoints import LAST, CheckpointManager
from components.train.worker.interruption import Preempted, StopRequest
from components.train.worker.loop import PhaseRun
from components.train.worker.step import TrainingStep
from tests.helpers.train_settings import settings as small

EPOCHS, FINE_TUNE_EPOCHS, STEPS = 2, 2, 10  # 150 examples in batches of 16
HEAD_STEPS = EPOCHS * STEPS


def two_phases(weights: str, folder, augmentation: str, **changes: object):
    values = {
        "model": "mobilenet_025", "weights": weights, "logs": str(folder / "logs"), "augmentation": augmentation,
        "epochs": EPOCHS, "fine_tune_epochs": str(FINE_TUNE_EPOCHS), "learning_rate": 0.01, "checkpoint_every": 4,
    }  # fmt: skip
    return small(**{**values, **changes})


def train(settings, dataset, folder):
    return training.run(settings, dataset, str(folder / "classifier"), str(folder / "checkpoints"))


@pytest.fixture(scope="module")
def undisturbed(weights, dataset, tmp_path_factory):
    """Of an augmentation: the result of an undisturbed training and the folder of its events. Each is trained once."""

    @functools.cache
    def trained(augmentation: str):
        folder = tmp_path_factory.mktemp("undisturbed")
        return train(two_phases(weights, folder, augmentation), dataset, folder), folder / "logs" / "mobilenet_025"

    return trained


class Killed(BaseException):
    """As kill -9: nothing of the training's own catches it, and nothing more is saved."""


def state(folder) -> dict:
    with np.load(folder / "checkpoints" / LAST) as content:
        return json.loads(content["_state"].tobytes())["state"]


# Checkpoints are written every 4 steps, after each epoch, and between the phases; each training is killed twice.
# Without augmentation the head learns from features, which a restart must find again.
@pytest.mark.slow
@pytest.mark.parametrize(
    "augmentation, kills",
    [
        pytest.param("none", [(0, HEAD_STEPS - 6), (1, HEAD_STEPS)], id="none: before and at the boundary"),
        pytest.param("light", [(0, HEAD_STEPS - 6), (1, HEAD_STEPS + 6)], id="light: before and after the boundary"),
    ],
)
def test_killed_training_has_the_curve_of_an_undisturbed_one(
    undisturbed, weights, dataset, tmp_path, monkeypatch, augmentation, kills
):
    settings = two_phases(weights, tmp_path, augmentation)
    save = CheckpointManager.save
    for wanted in kills:

        def save_and_die(checkpoints, arrays, wanted=wanted):
            save(checkpoints, arrays)
            if (checkpoints.state.phase, checkpoints.state.step) >= wanted:
                raise Killed

        with monkeypatch.context() as patched:
            patched.setattr(CheckpointManager, "save", save_and_die)
            with pytest.raises(Killed):
                train(settings, dataset, tmp_path)
        assert state(tmp_path)["phase"] == wanted[0]
    result, expected = train(settings, dataset, tmp_path), undisturbed(augmentation)[0]
    assert [entry["phase"] for entry in result.history] == ["head"] * EPOCHS + ["fine_tune"] * FINE_TUNE_EPOCHS
    for name in ("loss", "accuracy", "validation_loss", "validation_accuracy"):
        assert [e[name] for e in result.history] == pytest.approx([e[name] for e in expected.history], rel=1e-4)
    assert result.metrics["validation_loss"] == pytest.approx(expected.metrics["validation_loss"], rel=1e-4)


@pytest.mark.slow
def test_fine_tuning_starts_from_the_best_weights_of_the_head(weights, dataset, tmp_path, monkeypatch):
    starts, run = {}, PhaseRun.train

    def noted(phase_run, saved):
        model, best = phase_run._session.network.model, phase_run._checkpoints.best
        starts[phase_run._phase.name] = (model.get_weights(), list(best))
        run(phase_run, saved)

    monkeypatch.setattr(PhaseRun, "train", noted)
    result = train(two_phases(weights, tmp_path, "none", learning_rate=0.1), dataset, tmp_path)
    weights_then, best_then = starts["fine_tune"]
    assert all(np.array_equal(a, b) for a, b in zip(weights_then, best_then, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(weights_then, starts["head"][0], strict=True))
    assert result.history[-1]["phase"] == "fine_tune"


@pytest.mark.slow
def test_head_that_is_stopped_early_is_fine_tuned_all_the_same(weights, dataset, tmp_path):
    settings = two_phases(weights, tmp_path, "none", epochs=40, patience=1, learning_rate=0.1)
    result = train(settings, dataset, tmp_path)
    head = [entry for entry in result.history if entry["phase"] == "head"]
    tuned = [entry for entry in result.history if entry["phase"] == "fine_tune"]
    assert 2 <= len(head) < 40 and 1 <= len(tuned) <= FINE_TUNE_EPOCHS
    assert [entry["epoch"] for entry in result.history] == list(range(1, len(result.history) + 1))
    assert all(entry["loss"] > 0 and entry["validation_loss"] > 0 for entry in result.history)
    assert state(tmp_path)["step"] == len(result.history) * STEPS
    # That it was stopped is saved: the same call trains no more.
    again = train(settings, dataset, tmp_path)
    assert again.history == result.history


@pytest.mark.slow
def test_stop_during_evaluation_saves_and_loses_nothing(undisturbed, weights, dataset, tmp_path, monkeypatch):
    settings = two_phases(weights, tmp_path, "light", checkpoint_every=1000)
    predict, calls = TrainingStep.logits, []

    def stop_in_the_second_evaluation(step, batches, steps, examples, stop):
        calls.append(steps)
        stop.requested = len(calls) == 2
        return predict(step, batches, steps, examples, stop)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingStep, "logits", stop_in_the_second_evaluation)
        with pytest.raises(Preempted, match=f"stopped at step {2 * STEPS}"):
            train(settings, dataset, tmp_path)
    saved = state(tmp_path)
    assert (saved["step"], len(saved["history"])) == (2 * STEPS, 1)
    result = train(settings, dataset, tmp_path)
    assert [e["loss"] for e in result.history] == pytest.approx(
        [e["loss"] for e in undisturbed("light")[0].history], rel=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize("doing", ["reading record files", "features were computed", "exporting the model"])
def test_stop_outside_of_steps(weights, dataset, tmp_path, monkeypatch, doing):
    """SIGTERM is noticed before the first step and after the last one, too."""
    from components.train.worker import devices, export, feed

    settings = two_phases(weights, tmp_path, "none", epochs=1, fine_tune_epochs="0")
    place = {
        "reading record files": (devices, "prepare"),
        "features were computed": (feed, "Features"),
        "exporting the model": (export, "_with_weights"),
    }[doing]
    requests, enter, original = [], StopRequest.__enter__, getattr(*place)
    monkeypatch.setattr(StopRequest, "__enter__", lambda self: requests.append(self) or enter(self))

    def asked(*arguments):
        requests[-1].requested = True
        return original(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(*place, asked)
        with pytest.raises(Preempted, match=f"stopped while {doing}"):
            train(settings, dataset, tmp_path)
    assert not (tmp_path / "classifier" / "result.json").exists()
    assert len(train(settings, dataset, tmp_path).history) == 1


@pytest.mark.slow
def test_features_are_not_computed_again(weights, dataset, tmp_path, monkeypatch, capsys):
    settings = two_phases(weights, tmp_path, "none", epochs=1, fine_tune_epochs="0")

    def die(*_):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(TrainingStep, "run", die)
        with pytest.raises(Killed):
            train(settings, dataset, tmp_path)
    assert "150/150 train features" in capsys.readouterr().out
    train(settings, dataset, tmp_path)
    printed = capsys.readouterr().out
    assert "features of 150 train pictures are taken from" in printed and "/150 train features" not in printed
    assert not list((tmp_path / "checkpoints").glob("features-*")), "they are of no use after the phase"


@pytest.mark.parametrize("augmentation", ["none", pytest.param("light", marks=pytest.mark.slow)])
def test_tensorboard_shows_what_each_phase_sees_and_the_network(undisturbed, augmentation):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(undisturbed(augmentation)[1]), {"tensors": 0, "graph": 1}).Reload()
    assert [event.step for event in events.Tensors("augmented")] == [0, HEAD_STEPS]
    assert [event.step for event in events.Tensors("step/loss")] == list(range(1, 2 * HEAD_STEPS + 1))
    assert any("conv_dw_13" in node.name for node in events.Graph().node)
