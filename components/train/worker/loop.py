"""The training loop: phases, each of epochs, each of steps.

A model from scratch has one phase. Of a pre-trained model the head comes first, as a regression (probe) or in a phase
of its own, then perhaps a phase in which the base's upper part is trained too.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from components.shared.calibration import negative_log_likelihood
from components.shared.errors import PipelineError
from components.shared.progress import Progress
from components.shared.storage import storage
from components.train import models
from components.train.settings import Settings
from components.train.worker import devices, floors
from components.train.worker.checkpoints import Checkpoint, CheckpointManager, State, last_step
from components.train.worker.devices import local_value
from components.train.worker.events import EventLog, confusion_image
from components.train.worker.features import Features
from components.train.worker.feed import Feed
from components.train.worker.floors import Floor
from components.train.worker.interruption import Preempted
from components.train.worker.probe import Probe
from components.train.worker.probe import fit as fit_probe
from components.train.worker.session import Session
from components.train.worker.step import STEP_VALUES, TrainingStep

# Of the learning rate: a linear head on frozen features bears more than a network, pre-trained filters much less.
HEAD_RATE, FINE_TUNE_RATE = 3.0, 0.1
HYPER_PARAMETERS = (
    "model", "weights", "head", "epochs", "fine_tune_epochs", "batch_size", "optimizer", "learning_rate",
    "augmentation", "balance", "precision", "workers", "gpus", "seed",
)  # fmt: skip
# Steps that half precision may skip in a row: its loss scale has by then shrunk from 2^15 to 2^-15.
MOST_SKIPPED = 30
CONFUSION_SECONDS = 30.0  # at most one image of the confusion matrix in this time: drawing takes a moment


@dataclass(frozen=True)
class Phase:
    """A part of the training: what is trained (all, head or fine_tune), for how long, at which peak learning rate."""

    name: str
    epochs: int
    learning_rate: float


@dataclass(frozen=True)
class Outcome:
    """The result of a training.

    Attributes:
        session: as it was at the end: with the network that is read and shown images as the probe decided.
        state: the last state; `best_epoch` is 0 if no epoch was better than the probe.
        weights: of the best epoch, in the order of the network's `weights`.
        floors: what the model has to be better than.
        probe: the regression that came first, and the weights with which it goes on; None where there was none.
    """

    session: Session
    state: State
    weights: list[np.ndarray]
    floors: list[Floor]
    probe: Probe | None = None
    probe_weights: list[np.ndarray] = field(default_factory=list)


def plan(settings: Settings, tuning_epochs: int) -> list[Phase]:
    """From scratch everything is trained at once; of a pre-trained model first the head, then also its upper part."""
    rate = settings.learning_rate
    if not settings.pre_trained:
        return [Phase("all", settings.epochs, rate)]
    phases = [] if settings.probes else [Phase("head", settings.epochs, rate * HEAD_RATE)]
    return [*phases, Phase("fine_tune", tuning_epochs, rate * FINE_TUNE_RATE)] if tuning_epochs else phases


def train(session: Session) -> Outcome:
    """Trains the session's network, from its last checkpoint if there is one.

    Raises:
        PipelineError: the loss is not finite, the features say nothing, or the checkpoint is of another training.
        Preempted: a worker was asked to stop; the checkpoint is written.
    """
    session.announce()
    uri, probe = storage.join(session.settings.logs, session.settings.short_name), None
    with EventLog(uri, session.chief, last_step(session)) as events:
        events.hyper_parameters({name: getattr(session.settings, name) for name in HYPER_PARAMETERS})
        started, features = time.monotonic(), Features(session, events, 0)
        if session.settings.probes:
            probe = fit_probe(session, features)
            session = session.reading_as(probe.choice.reading, probe.choice.view)
            session.network.head.layers[-1].set_weights([probe.trained.kernel, probe.trained.bias])
            events.scalars(0, {f"probe/{name}": value for name, value in probe.tried.items()})
        least = floors.measure(session, probe)
        events.text(0, "floors", floors.markdown(least))
        weights = [local_value(session.strategy, v) for v in session.network.model.weights]
        checkpoints = CheckpointManager(session)
        saved = checkpoints.resume()
        if probe:
            loss = negative_log_likelihood(probe.validation, session.validation.labels)
            checkpoints.start_from(probe.accuracy(session.validation.labels), loss, weights, time.monotonic() - started)
            weights[-2:] = [probe.final.kernel, probe.final.bias]
        for phase in plan(session.settings, _tuning_epochs(session, checkpoints, features))[checkpoints.state.phase :]:
            PhaseRun(session, checkpoints, phase, events).train(saved)
            saved = None
            checkpoints.end_phase()
        features.delete()
    return Outcome(session, checkpoints.state, checkpoints.best, least, probe, weights)


def _tuning_epochs(session: Session, checkpoints: CheckpointManager, features: Features) -> int:
    """The same on every worker and in every attempt, whatever a clock said meanwhile."""
    state = checkpoints.state
    if state.tuning_epochs is None:
        seconds = devices.agreed(session.strategy, features.seconds / max(features.images, 1))
        state.tuning_epochs = session.settings.tuning_epochs(len(session.train), seconds)
    return state.tuning_epochs


@dataclass(frozen=True)
class _Pending:
    """A step whose values may still be on their way from the device."""

    number: int
    values: tf.Tensor
    waited: float  # seconds for its batch
    timed: bool  # False if it was traced


class PhaseRun:
    """The steps and epochs of one phase of the session's training; `checkpoints` says where that is."""

    def __init__(self, session: Session, checkpoints: CheckpointManager, phase: Phase, events: EventLog) -> None:
        self._resumed = time.monotonic()
        self._session, self._checkpoints, self._phase, self._events = session, checkpoints, phase, events
        self._settings, self._state, self._order = session.settings, checkpoints.state, session.order
        self._last_epoch = self._state.phase_epoch + phase.epochs
        _set_trainable(session.network, phase.name)
        # Frozen features without augmentation are the same in every epoch: they are computed once.
        cached = phase.name == "head" and self._settings.augmentation == "none"
        self._feed = Feed(session, cached, events, self._state.step)
        model = session.network.head if cached else session.network.model
        steps = phase.epochs * self._order.steps
        rates = models.layer_rates(session.network.base) if phase.name == "fine_tune" else None
        self._step = TrainingStep(session.strategy, model, self._settings, phase.learning_rate, steps, rates)
        self._drawn = -math.inf
        self._fresh = True  # the next step traces, so it is not timed
        self._skipped = 0  # steps without a finite gradient, in a row
        self._clock = time.monotonic()

    def train(self, saved: Checkpoint | None) -> None:
        """All steps of the phase that are not done yet; `saved` is where this phase was left, if it was begun."""
        if saved:
            self._step.restore(saved.arrays)
        elements, evaluation = iter(self._feed.train()), iter(self._feed.validation())
        progress = Progress(self._last_epoch * self._order.steps - self._state.step, "steps")
        while not self._done():
            if not self._evaluation_due():
                self._epoch(elements, progress)
            self._evaluate(evaluation)
            self._save()
        self._feed.close()

    def _evaluation_due(self) -> bool:
        """Whether the last step ended an epoch that was not evaluated yet."""
        return len(self._state.history) < self._state.step // self._order.steps

    def _done(self) -> bool:
        if self._evaluation_due():
            return False
        epochs = len(self._state.history)
        waited = epochs - max(self._state.best_epoch, self._state.phase_epoch)
        if epochs < self._last_epoch and 0 < self._settings.patience <= waited:
            print(f"no better validation accuracy for {waited} epochs: {self._phase.name} is stopped", flush=True)
            return True
        return epochs >= self._last_epoch

    def _epoch(self, elements: Iterator[Any], progress: Progress) -> None:
        """The rest of an epoch. Values are read a step late, so that a GPU never waits for Python."""
        last = (self._state.step // self._order.steps + 1) * self._order.steps
        pending: _Pending | None = None
        self._clock = time.monotonic()
        while self._state.step < last:
            previous, pending = pending, self._start(elements)
            stop, note = self._account(previous)
            progress.update(1, note)
            if stop or self._state.step % self._settings.checkpoint_every == 0:
                stop |= self._account(pending)[0]
                pending = None
                self._save()
                self._leave_if(stop)
                self._clock = time.monotonic()
        stop, _ = self._account(pending)
        if stop:
            self._save()
            self._leave_if(stop)

    def _start(self, elements: Iterator[Any]) -> _Pending:
        state, started = self._state, time.monotonic()
        self._events.before_step(state.step)
        element = next(elements)
        waited = time.monotonic() - started
        values = self._step.run(element, self._session.stop.requested)
        timed, self._fresh = not self._fresh, False
        if not timed:
            self._show_start(element)
            self._clock = time.monotonic()
        state.step += 1
        return _Pending(state.step, values, waited, timed)

    def _account(self, step: _Pending | None) -> tuple[bool, str]:
        """Adds a step to its epoch and to the events; returns whether a worker was asked to stop, and a note."""
        if step is None:
            return False, ""
        values = dict(zip(STEP_VALUES, step.values.numpy().tolist(), strict=True))
        self._check_finite(step.number, values)
        for i, value in enumerate((values["loss"] * values["count"], values["correct"], values["count"])):
            self._state.sums[i] += value
        self._events.scalars(
            step.number,
            {
                "step/loss": values["loss"],
                "step/accuracy": values["correct"] / max(values["count"], 1),
                "step/learning_rate": values["learning_rate"],
                "step/gradient_norm": values["gradient_norm"],
                **self._speed(step, values["count"]),
            },
        )
        return values["stop"] > 0, f"loss {values['loss']:.3f}"

    def _speed(self, step: _Pending, images: float) -> dict[str, float]:
        """Images a second and the share of waiting for input, from the end of the step before to the end of this one.

        The end, because a device works on after the call that starts a step has returned.
        """
        before, self._clock = self._clock, time.monotonic()
        if not step.timed:
            return {}
        seconds = max(self._clock - before, 1e-9)
        self._state.timed_seconds += seconds
        self._state.timed_images += images
        return {"step/images_per_second": images / seconds, "step/input_wait_share": min(1.0, step.waited / seconds)}

    def _check_finite(self, step: int, values: dict[str, float]) -> None:
        finite = math.isfinite(values["gradient_norm"])
        self._skipped = 0 if finite else self._skipped + 1
        # Half precision overflows now and then: its loss scale skips the step and shrinks.
        skip = self._step.policy == "mixed_float16" and self._skipped < MOST_SKIPPED
        if math.isfinite(values["loss"]) and (finite or skip):
            return
        raise PipelineError(
            f"the loss is {values['loss']:.3g} and its gradient {values['gradient_norm']:.3g} at step {step}, learning "
            f"rate {values['learning_rate']:.3g}: start again with a learning_rate below "
            f"{self._settings.learning_rate:g} (the last good checkpoint is kept in {self._session.checkpoints})"
        )

    def _leave_if(self, stop: bool) -> None:
        if stop:
            raise self._stopped()

    def _stopped(self) -> Preempted:
        return Preempted(f"stopped at step {self._state.step}; the checkpoint is in {self._session.checkpoints}")

    def _save(self) -> None:
        now = time.monotonic()
        self._state.seconds += now - self._resumed
        self._resumed = now
        self._checkpoints.save(self._step.state)

    def _evaluate(self, evaluation: Iterator[Any]) -> None:
        labels = self._session.validation.labels
        steps = self._feed.validation_order.steps
        logits = self._step.logits(evaluation, steps, len(labels), self._session.stop)
        if logits is None:
            self._save()
            raise self._stopped()
        loss, correct, count = self._state.sums
        entry: dict[str, Any] = {
            "epoch": len(self._state.history) + 1,
            "phase": self._phase.name,
            "loss": loss / max(count, 1),
            "accuracy": correct / max(count, 1),
            "validation_loss": negative_log_likelihood(logits, labels),
            "validation_accuracy": float((logits.argmax(axis=1) == labels).mean()),
        }
        self._state.history.append(entry)
        self._state.sums[:] = [0.0, 0.0, 0.0]
        self._checkpoints.note_best(entry["validation_accuracy"], entry["validation_loss"], self._step)
        self._show_epoch(entry, logits, labels)

    def _show_start(self, element: Any) -> None:
        """What the phase works with: a batch as augmented, and the graph (of a phase on features: of the network)."""
        if self._feed.cached:
            self._events.graph(self._feed.graph())
            return
        pictures = self._session.strategy.experimental_local_results(element[0])[0]
        self._events.images(self._state.step, "augmented", pictures.numpy()[:16])
        self._events.graph(self._step.graph(element))

    def _show_epoch(self, entry: dict[str, Any], logits: np.ndarray, labels: np.ndarray) -> None:
        epoch = entry["epoch"]
        self._events.scalars(epoch, {f"epoch/{k}": v for k, v in entry.items() if k not in ("epoch", "phase")})
        print(
            f"epoch {epoch} ({entry['phase']}): loss {entry['loss']:.4f}, accuracy {entry['accuracy']:.4f}, "
            f"validation loss {entry['validation_loss']:.4f}, accuracy {entry['validation_accuracy']:.4f}",
            flush=True,
        )
        if self._session.chief and (epoch == self._last_epoch or time.monotonic() - self._drawn > CONFUSION_SECONDS):
            self._drawn = time.monotonic()
            classes = self._session.info.labels
            matrix = np.zeros((len(classes), len(classes)), np.int64)
            np.add.at(matrix, (labels, logits.argmax(axis=1)), 1)
            self._events.images(epoch, "validation_confusion", confusion_image(matrix, classes))
        self._events.flush()


def _set_trainable(network: models.Network, phase: str) -> None:
    network.base.trainable = phase == "all"
    if phase == "fine_tune":
        models.unfreeze_upper(network.base)
