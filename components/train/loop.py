"""One worker's training, from data set to exported classifier."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from components.train.settings import Settings

RESULT = "result.json"


@dataclass(frozen=True)
class TrainingResult:
    """What a finished training tells: final `metrics` by name, `history` (a dict an epoch), seconds, images a second."""

    model: str
    metrics: dict[str, float]
    history: list[dict[str, float]]
    seconds: float
    images_per_second: float

    def save(self, output: str) -> None:
        """Writes `result.json` into the folder `output`."""
        (Path(output) / RESULT).write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, output: str) -> "TrainingResult":
        """The result that a worker's chief wrote into the folder `output`."""
        return cls(**json.loads((Path(output) / RESULT).read_text(encoding="utf-8")))


def run(settings: Settings, dataset: str, output: str, checkpoints: str) -> TrainingResult:
    """Trains `settings.model` on the data set (a folder or URI with dataset.json) and exports it into `output`.

    Every worker of a cluster (TF_CONFIG) calls it alike; the chief exports and writes `result.json`. `checkpoints` is
    a URI: a run that finds a checkpoint there continues at its step with the same order of data.

    Raises:
        PipelineError: a mistake of the user, in one line.
        Preempted: SIGTERM came; a checkpoint was written, the same call continues.
    """
    raise NotImplementedError


class Preempted(Exception):
    """Training was asked to stop (SIGTERM) and wrote a checkpoint: start it again to continue."""
