"""The result of a finished training: metrics, history, duration."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULT = "result.json"


@dataclass(frozen=True)
class TrainingResult:
    """Final `metrics` by name, `history` (a dict per epoch), duration in seconds, training images per second.

    `comparison` is what the model has to be better than, `tried` the cross-validated accuracy of alternatives, by name.
    """

    model: str
    metrics: dict[str, float]
    history: list[dict[str, float]]
    seconds: float
    images_per_second: float
    comparison: list[dict[str, Any]] = field(default_factory=list)
    tried: dict[str, float] = field(default_factory=dict)

    def save(self, output: str) -> None:
        """Writes `result.json` into the folder `output`."""
        (Path(output) / RESULT).write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, output: str) -> "TrainingResult":
        """The result that a worker's chief wrote into the folder `output`."""
        return cls(**json.loads((Path(output) / RESULT).read_text(encoding="utf-8")))
