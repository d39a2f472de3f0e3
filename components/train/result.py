"""What a finished training tells."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

RESULT = "result.json"


@dataclass(frozen=True)
class TrainingResult:
    """Final `metrics` by name, `history` (a dict an epoch), duration in seconds, training images a second."""

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
