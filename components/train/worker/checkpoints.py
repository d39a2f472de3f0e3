"""Checkpoints in the store: the last one to go on from, the best one to export.

A checkpoint is one .npz file of arrays and its metadata, so it is written and replaced as a whole. Any number of
workers can read it, whatever number wrote it.
"""

import dataclasses
import io
import json
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from components.shared.errors import PipelineError
from components.shared.storage import storage
from components.train.worker.devices import local_value
from components.train.worker.session import Session
from components.train.worker.step import TrainingStep

LAST, BEST = "last.npz", "best.npz"
# Settings that shape the numbers: a checkpoint of other ones is of another training.
_IDENTITY = (
    "snapshot", "model", "weights", "head", "view", "epochs", "fine_tune_epochs", "batch_size", "optimizer",
    "learning_rate", "augmentation", "balance", "precision", "seed",
)  # fmt: skip
_FORMAT = 3  # of the checkpoints
_START = "start/"  # arrays of a checkpoint between two phases: all weights that the next one starts from


@dataclass(frozen=True)
class Checkpoint:
    """`arrays` by name, and `state`: where training is (JSON values only)."""

    arrays: Mapping[str, np.ndarray]
    state: dict[str, Any] = field(default_factory=dict)


class Checkpoints:
    """The checkpoints of one training at `uri`; `identity` says which training it is (model, labels, settings ...)."""

    def __init__(self, uri: str, identity: Mapping[str, Any]) -> None:
        self._uri, self._identity = uri, json.loads(json.dumps(identity))

    def save(self, name: str, checkpoint: Checkpoint) -> None:
        """Writes the checkpoint `name` (LAST or BEST) in place of the one before. Raises StorageError."""
        buffer = io.BytesIO()
        state = json.dumps({"identity": self._identity, "state": checkpoint.state})
        arrays: dict[str, Any] = {**checkpoint.arrays, "_state": np.frombuffer(state.encode(), np.uint8)}
        np.savez(buffer, **arrays)
        storage.write_bytes(storage.join(self._uri, name), buffer.getvalue())

    def load(self, name: str) -> Checkpoint | None:
        """The checkpoint `name`, or None if there is none.

        Raises:
            PipelineError: it is of another training (labels, model, data or settings differ) or damaged.
        """
        uri = storage.join(self._uri, name)
        if not storage.exists(uri):
            return None
        try:
            with np.load(io.BytesIO(storage.read_bytes(uri))) as content:
                arrays = {key: content[key] for key in content.files}
        except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise PipelineError(f"the checkpoint {uri} is damaged ({error}): delete it to start anew") from error
        written = json.loads(arrays.pop("_state").tobytes())
        self._check(written["identity"], uri)
        return Checkpoint(arrays, written["state"])

    def _check(self, found: Mapping[str, Any], uri: str) -> None:
        for key, expected in self._identity.items():
            if found.get(key) != expected:
                raise PipelineError(
                    f"the checkpoint {uri} is of another training: its {key} is {_short(found.get(key))} and not "
                    f"{_short(expected)}; delete it to start anew, or train with the settings it was written with"
                )


@dataclass
class State:
    """Where a training is; written with every checkpoint.

    Attributes:
        step: steps done, over all phases.
        phase: phases that are finished, so the number of the running one; it began after `phase_epoch` epochs.
        history: a dict for each epoch that was evaluated.
        sums: loss, correct and counted examples of the unfinished epoch.
        best: validation accuracy and loss (negative) of the best epoch, which is `best_epoch` (from 1).
        tuning_epochs: how many epochs are to fine-tune, once that is decided.
        seconds: spent in phases, by all attempts; timed_seconds: spent in the timed_images' steps.
    """

    step: int = 0
    phase: int = 0
    phase_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    best_epoch: int = 0
    best: list[float] = field(default_factory=lambda: [-1.0, -math.inf])
    tuning_epochs: int | None = None
    seconds: float = 0.0
    timed_seconds: float = 0.0
    timed_images: float = 0.0


def last_step(session: Session) -> int:
    """The step of the last checkpoint, 0 if there is none. Raises PipelineError as `Checkpoints.load` does."""
    saved = Checkpoints(session.checkpoints, _identity(session)).load(LAST)
    return saved.state["step"] if saved else 0


class CheckpointManager:
    """Where a session's training is, its best weights so far, and the checkpoints of both.

    Attributes:
        state: the state that the last checkpoint holds, or the next one will.
        best: the weights of the best epoch, in the order of the network's `weights`; empty before the first epoch.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._checkpoints = Checkpoints(session.checkpoints, _identity(session))
        self.state = State()
        self.best: list[np.ndarray] = []
        self._best_saved = True

    def resume(self) -> Checkpoint | None:
        """Takes over the last checkpoint; returns it if it was written inside a phase, whose step can restore it.

        Raises:
            PipelineError: it is of another training or damaged.
        """
        saved = self._checkpoints.load(LAST)
        if not saved:
            return None
        self.state = State(**saved.state)
        best = self._checkpoints.load(BEST)
        self.best = [best.arrays[str(i)] for i in range(len(best.arrays))] if best else []
        print(f"continuing at step {self.state.step} from the checkpoint in {self._session.checkpoints}", flush=True)
        if f"{_START}0" not in saved.arrays:
            return saved
        self._start_from(saved.arrays)
        return None

    def start_from(self, accuracy: float, loss: float, weights: list[np.ndarray], seconds: float) -> None:
        """What every epoch has to be better than: the network with these weights."""
        if not self.best:
            self.state.best, self.best, self._best_saved = [accuracy, -loss], weights[:], False
            self.state.seconds += seconds

    def note_best(self, accuracy: float, loss: float, step: TrainingStep) -> None:
        """Keeps the averaged weights if this epoch's validation is the best so far (ties: the lower loss)."""
        if [accuracy, -loss] > self.state.best:
            self.state.best, self.state.best_epoch = [accuracy, -loss], len(self.state.history)
            self.best, self._best_saved = step.averaged_weights(self._session.network.model), False

    def save(self, arrays: Callable[[], Mapping[str, np.ndarray]]) -> None:
        """On the chief, writes the best weights, if they are new, and then `arrays()` with the state.

        In this order the two always fit. Raises StorageError.
        """
        if not self._session.chief:
            return
        if not self._best_saved:
            self._checkpoints.save(BEST, Checkpoint({str(i): array for i, array in enumerate(self.best)}))
            self._best_saved = True
        self._checkpoints.save(LAST, Checkpoint(arrays(), dataclasses.asdict(self.state)))

    def end_phase(self) -> None:
        """The next phase starts from the best weights so far, and they are what a checkpoint between the two holds.

        (The best ones by themselves are no start: a crash can leave those of the next phase in their place.)
        """
        self.state.phase += 1
        self.state.phase_epoch = len(self.state.history)
        model = self._session.network.model
        best = {id(weight): array for weight, array in zip(model.weights, self.best, strict=True)}
        arrays = {
            f"{_START}{i}": best[id(v)] if id(v) in best else local_value(self._session.strategy, v)
            for i, v in enumerate(model.variables)
        }
        self._start_from(arrays)
        self.save(lambda: arrays)

    def _start_from(self, arrays: Mapping[str, np.ndarray]) -> None:
        for i, variable in enumerate(self._session.network.model.variables):
            variable.assign(arrays[f"{_START}{i}"])


def _identity(session: Session) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "labels": list(session.info.labels),
        "image_size": session.info.stored_size,
        **{name: getattr(session.settings, name) for name in _IDENTITY},
    }


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."
