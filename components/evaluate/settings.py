"""Parameters of the evaluate step, checked before any work."""

import os
from dataclasses import dataclass

from components.artifacts import verdict
from components.shared.parameters import between, dns_name, refuse
from components.shared.storage import storage

SERVED = "service:"


@dataclass(frozen=True)
class Settings:
    """Parameters of the step.

    Attributes:
        min_accuracy: test accuracy below which the model does not pass.
        must_beat_guessing: whether a model that is no better than guessing is refused, whatever its accuracy.
        max_class_regression: by how much a class's recall may be below the champion's.
        coverage: how often the set of labels that cannot be excluded is to hold the truth.
        champion: the classifier to beat: path, URI, service:NAME for the one now served, or "" for none.

    Raises:
        ParameterError: a value is not allowed.
    """

    min_accuracy: float
    must_beat_guessing: bool
    max_class_regression: float
    champion: str
    coverage: float = 0.9

    def __post_init__(self) -> None:
        between("min_accuracy", self.min_accuracy, 0, 1)
        between("max_class_regression", self.max_class_regression, 0, 1)
        between("coverage", self.coverage, 0.01, 0.999)
        _check_champion(self.champion)


def _check_champion(champion: str) -> None:
    if champion.startswith(("http://", "https://")):
        use = "give the model's folder or URI, or service:NAME for the model that a service of the cluster now serves"
        raise refuse("champion", champion, f"it is a web address; {use}")
    if champion.startswith(SERVED):
        dns_name("champion=service", champion.removeprefix(SERVED).strip(), 63, "service:museum-classifier")
        return
    path = storage.local_path(champion) if champion else None
    if path is not None and not os.path.isdir(path):
        raise refuse("champion", champion, "there is no such folder; give that of a classifier (model.tflite)")
    if path is not None:
        check_passed(champion)


def check_passed(champion: str) -> None:
    """Raises ParameterError if the evaluation refused the classifier at the path or URI `champion` ("": none)."""
    if champion and (why := verdict.refusal(champion)):
        raise refuse("champion", champion, f"its evaluation refused this model ({why}); give one that passed")
