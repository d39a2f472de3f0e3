"""Checkpoints in the store: the last one to go on from, the best one to export.

A checkpoint is one .npz file of arrays and its metadata, so it is written and replaced as a whole. Any number of
workers can read it, whatever number wrote it.
"""

import io
import json
import zipfile
from dataclasses import dataclass, field
from typing import Any, Mapping

import numpy as np

from components.shared.errors import PipelineError
from components.shared.storage import storage

LAST, BEST = "last.npz", "best.npz"


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
        np.savez(buffer, **checkpoint.arrays, _state=np.frombuffer(state.encode(), np.uint8))
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


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."
