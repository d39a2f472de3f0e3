"""A training from start to end: data, network, phases, checkpoints, events, export."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from components.shared.calibration import fit_temperature
from components.shared.dataset import DatasetInfo
from components.shared.imaging import input_size
from components.shared.storage import storage
from components.train import memory, models
from components.train.result import TrainingResult
from components.train.settings import Settings
from components.train.worker import batches, devices, export, input_pipeline, weights
from components.train.worker.checkpoints import BEST, LAST, Checkpoint, Checkpoints
from components.train.worker.events import EventLog
from components.train.worker.interruption import StopRequest
from components.train.worker.phase import HYPER_PARAMETERS, PhaseRun, plan
from components.train.worker.trainer import Trainer, local_value, per_replica_variables

# Settings that shape the numbers: a checkpoint of other ones is of another training.
_IDENTITY = (
    "snapshot", "model", "weights", "epochs", "fine_tune_epochs", "batch_size", "optimizer", "learning_rate",
    "augmentation", "balance", "precision", "seed",
)  # fmt: skip
_FORMAT = 2  # of the checkpoints
_START = "start/"  # arrays of a checkpoint between two phases: all weights that the next one starts from


@dataclass
class State:
    """Where a training is; written with every checkpoint.

    Attributes:
        step: steps done, over all phases.
        phase: phases that are finished, so the number of the running one; it began after `phase_epoch` epochs.
        history: a dict for each epoch that was evaluated.
        sums: loss, correct and counted examples of the unfinished epoch.
        best: validation accuracy and loss (negative) of the best epoch, which is `best_epoch` (from 1).
        seconds: spent in phases, by all attempts; timed_seconds: spent in the timed_images' steps.
    """

    step: int = 0
    phase: int = 0
    phase_epoch: int = 0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    sums: list[float] = dataclasses.field(default_factory=lambda: [0.0, 0.0, 0.0])
    best_epoch: int = 0
    best: list[float] = dataclasses.field(default_factory=lambda: [-1.0, -math.inf])
    seconds: float = 0.0
    timed_seconds: float = 0.0
    timed_images: float = 0.0


class Training:
    """Everything that one worker holds while it trains."""

    def __init__(
        self, settings: Settings, info: DatasetInfo, checkpoints: str, folder: str, stop: StopRequest
    ) -> None:  # fmt: skip
        self.settings, self.info, self.stop = settings, info, stop
        self.size = input_size(info.stored_size)
        self.pre_trained = settings.pre_trained
        models.check_size(settings.model, self.size, self.pre_trained)
        self.strategy = devices.prepare(settings, stop)
        self.chief = devices.is_chief(self.strategy)
        self.train = input_pipeline.load(info, "train", f"{folder}/train", stop.check)
        self.validation = input_pipeline.load(info, "validation", f"{folder}/validation", stop.check)
        self._build(f"{folder}/weights")
        self.order = input_pipeline.Order(
            self.train.labels, settings.batch_size, settings.seed, settings.balance == "sampling"
        )
        self.checkpoint_uri = checkpoints
        self._checkpoints = Checkpoints(checkpoints, self._identity())
        self.state = State()
        self._best: list[np.ndarray] = []
        self._best_saved = True

    def run(self, output: str) -> TrainingResult:
        """Trains, and on the chief exports into the local folder `output`."""
        self._log_start()
        saved = self._resume()
        uri = storage.join(self.settings.logs, self.settings.model)
        with EventLog(uri, self.chief, self.state.step) as events:
            events.hyper_parameters({name: getattr(self.settings, name) for name in HYPER_PARAMETERS})
            for phase in plan(self.settings)[self.state.phase :]:
                PhaseRun(self, phase, events).train(saved)
                saved = None
                self._end_phase()
        return self._finish(output)

    def save(self, trainer: Trainer) -> None:
        """Writes the best weights, if they are new, and then the last state: in this order both always fit."""
        self._save(trainer.state)

    def note_best(self, accuracy: float, loss: float, trainer: Trainer) -> None:
        """Keeps the averaged weights if this epoch's validation is the best so far (ties: the lower loss)."""
        if [accuracy, -loss] > self.state.best:
            self.state.best, self.state.best_epoch = [accuracy, -loss], len(self.state.history)
            self._best, self._best_saved = trainer.averaged_weights(self.network.model), False

    def evaluation_due(self) -> bool:
        """Whether the last step ended an epoch that was not evaluated yet."""
        return len(self.state.history) < self.state.step // self.order.steps

    def share(self) -> batches.Share:
        """The part of every batch that this worker's replicas take."""
        own = max(self.settings.gpus, 1)
        return batches.Share(devices.worker_index(self.strategy) * own, own, self.settings.replicas)

    def _build(self, folder: str) -> None:
        path = weights.fetch(self.settings.weights, self.settings.model, folder)
        self._options = weights.options(path, self.settings.model)
        self.weights_hash = weights.digest(path)
        with self.strategy.scope(), per_replica_variables(self.strategy):
            self.network = models.build(
                self.settings.model, self.size, len(self.info.labels), self._options, self.pre_trained
            )
            if path:
                weights.load(self.network.base, path, self.settings.model)

    def _save(self, arrays) -> None:
        if not self.chief:
            return
        if not self._best_saved:
            self._checkpoints.save(BEST, Checkpoint({str(i): array for i, array in enumerate(self._best)}))
            self._best_saved = True
        self._checkpoints.save(LAST, Checkpoint(arrays(), dataclasses.asdict(self.state)))

    def _end_phase(self) -> None:
        """The next phase starts from the best weights so far, and they are what a checkpoint between the two holds.

        (The best ones by themselves are no start: a crash can leave those of the next phase in their place.)
        """
        self.state.phase += 1
        self.state.phase_epoch = len(self.state.history)
        best = {id(weight): array for weight, array in zip(self.network.model.weights, self._best, strict=True)}
        arrays = {
            f"{_START}{i}": best[id(v)] if id(v) in best else local_value(self.strategy, v)
            for i, v in enumerate(self.network.model.variables)
        }
        self._start_from(arrays)
        self._save(lambda: arrays)

    def _start_from(self, arrays: dict[str, np.ndarray]) -> None:
        for i, variable in enumerate(self.network.model.variables):
            variable.assign(arrays[f"{_START}{i}"])

    def _resume(self) -> Checkpoint | None:
        """Takes over the state of the last checkpoint; returns it if it is for a trainer, from inside a phase."""
        saved = self._checkpoints.load(LAST)
        if not saved:
            return None
        self.state = State(**saved.state)
        best = self._checkpoints.load(BEST)
        self._best = [best.arrays[str(i)] for i in range(len(best.arrays))] if best else []
        print(f"continuing at step {self.state.step} from the checkpoint in {self.checkpoint_uri}", flush=True)
        if f"{_START}0" not in saved.arrays:
            return saved
        self._start_from(saved.arrays)
        return None

    def _exported(self) -> keras.Model:
        """The best weights in float32, outside any distribution strategy."""
        keras.config.set_dtype_policy("float32")
        model = models.build(
            self.settings.model, self.size, len(self.info.labels), self._options, self.pre_trained
        ).model  # fmt: skip
        model.set_weights(self._best)
        return model

    def _identity(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "labels": list(self.info.labels),
            "image_size": self.info.stored_size,
            **{name: getattr(self.settings, name) for name in _IDENTITY},
        }

    def _log_start(self) -> None:
        settings, native = self.settings, models.ZOO[self.settings.model].native_size
        print(
            f"{settings.model}: {self.network.model.count_params():,} parameters, {len(self.train)} training and "
            f"{len(self.validation)} validation pictures at {self.size} px, "
            f"{self.order.steps} steps an epoch of {settings.batch_size} pictures",
            flush=True,
        )
        if self.pre_trained and native > self.size:
            print(
                f"note: {settings.model} was trained at {native} px: these pictures of {self.size} px are enlarged to "
                f"{models.base_size(settings.model, self.size, True)} in the model; image_size={-(-native * 8 // 7)} "
                "would show it more detail",
                flush=True,
            )

    def _finish(self, output: str) -> TrainingResult:
        state, labels, doing = self.state, self.validation.labels, "exporting the model"
        network = self._exported()
        self.stop.check(doing)
        logits = export.logits(network, self.validation, self.size, memory.evaluation_batch(self.settings))
        temperature = fit_temperature(logits, labels)
        result = TrainingResult(
            model=self.settings.model,
            metrics={
                **export.metrics(logits, labels, temperature),
                "temperature": temperature,
                "train_accuracy": state.history[state.best_epoch - 1]["accuracy"],
                "best_epoch": state.best_epoch,
                "epochs": len(state.history),
            },
            history=state.history,
            seconds=round(state.seconds, 3),
            images_per_second=round(state.timed_images / max(state.timed_seconds, 1e-9), 2),
        )
        if self.chief:
            export.save(network, self, result, output, lambda: self.stop.check(doing))
            result.save(output)
        return result
