"""Parameters of the evaluate step, checked before any work."""

import os
from dataclasses import dataclass

from components.shared.errors import PipelineError
from components.shared.storage import storage

SERVED = "service:"


@dataclass(frozen=True)
class Settings:
    """Parameters of the step.

    Attributes:
        min_accuracy: test accuracy below which the model does not pass.
        max_class_regression: by how much a class's recall may be below the champion's.
        champion: the classifier to beat: path, URI, service:NAME for the one now served, or "" for none.

    Raises:
        PipelineError: a value is not allowed.
    """

    min_accuracy: float
    max_class_regression: float
    champion: str

    def __post_init__(self) -> None:
        for name in ("min_accuracy", "max_class_regression"):
            if not 0 <= getattr(self, name) <= 1:
                raise PipelineError(f"{name}={getattr(self, name):g} is not allowed: give a share from 0 to 1")
        _check_champion(self.champion)


def _check_champion(champion: str) -> None:
    if champion.startswith(("http://", "https://")):
        raise PipelineError(
            f"champion={champion} is a web address: give the model's folder or URI, or service:NAME for the model that "
            "a service of the cluster now serves"
        )
    if champion.startswith(SERVED):
        if not champion.removeprefix(SERVED).strip():
            raise PipelineError("champion=service: names no service: give service:museum-classifier, say")
        return
    path = storage.local_path(champion) if champion else None
    if path is not None and not os.path.isdir(path):
        raise PipelineError(f"champion={champion}: there is no such folder; give that of a classifier (model.tflite)")
