"""Features of a frozen network, kept beside the checkpoints for a training that is interrupted and goes on."""

import hashlib
import json
import os
import tempfile
from typing import TYPE_CHECKING

import keras
import numpy as np

from components.shared.storage import storage
from components.train import models

if TYPE_CHECKING:
    from components.train.worker.training import Training

_SPLITS = ("train", "validation")


class FeatureFiles:
    """One .npy file a split, named by everything that the features of `training` depend on."""

    def __init__(self, training: "Training") -> None:
        self._uri = training.checkpoint_uri
        settings, size = training.settings, training.size
        key = {
            "snapshot": training.info.snapshot,
            "model": settings.model,
            "weights": training.weights_hash,
            "sizes": [training.info.stored_size, size, models.base_size(settings.model, size, training.pre_trained)],
            "policy": keras.config.dtype_policy().name,
            "precision": settings.precision,
        }
        self._key = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]

    def load(self, split: str, examples: int) -> np.ndarray | None:
        """[examples, width] float32 of `split`, or None if an earlier attempt did not get so far."""
        uri = self._file(split)
        if not storage.exists(uri):
            return None
        with tempfile.TemporaryDirectory(prefix="features-") as folder:
            path = os.path.join(folder, "features.npy")
            storage.download(uri, path)
            values = np.load(path)
        print(f"the features of {len(values)} {split} pictures are taken from {uri}", flush=True)
        return values if len(values) == examples else None

    def save(self, split: str, values: np.ndarray) -> None:
        """Writes `values` [n, width] float32. Raises StorageError."""
        with tempfile.TemporaryDirectory(prefix="features-") as folder:
            path = os.path.join(folder, "features.npy")
            np.save(path, values)
            storage.upload(path, self._file(split))

    def delete(self) -> None:
        """Removes the files of both splits. Raises StorageError."""
        for split in _SPLITS:
            storage.delete(self._file(split))

    def _file(self, split: str) -> str:
        return storage.join(self._uri, f"features-{split}-{self._key}.npy")
