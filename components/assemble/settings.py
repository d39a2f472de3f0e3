"""Parameters of the assemble step."""

import math
from dataclasses import dataclass, fields

from components.shared.errors import PipelineError

CONFLICTS = ("exclude", "keep", "fail")
# Beyond this, every picture resembles every other.
_LARGEST_DISTANCE = 12


@dataclass(frozen=True)
class Settings:
    """Parameters of the assemble step, as pipeline.py describes them.

    `image_size`, `jpeg_quality` and `respect_robots` are of fetch and change nothing here: dataset.json, its report and
    the model card say what the pictures were made with.

    Raises:
        PipelineError: a value is not allowed; the message names what is.
    """

    conflicts: str
    duplicate_distance: int
    min_examples_per_class: int
    min_eval_examples_per_class: int
    max_imbalance: float
    max_failed_fraction: float
    max_enlarged_fraction: float
    expected_classes: str
    previous_dataset: str
    max_drift: float
    image_size: int
    jpeg_quality: int
    respect_robots: bool

    def __post_init__(self) -> None:
        if self.conflicts not in CONFLICTS:
            raise PipelineError(f"conflicts={self.conflicts} is not allowed; use one of {', '.join(CONFLICTS)}")
        if not -1 <= self.duplicate_distance <= _LARGEST_DISTANCE:
            raise PipelineError(
                f"duplicate_distance={self.duplicate_distance} is not allowed; "
                f"use 0 to {_LARGEST_DISTANCE}, or -1 for off"
            )
        for field in fields(self):
            value = getattr(self, field.name)
            # Not `value < 0`: of nan every comparison is false, and the rule would never be broken.
            if field.name.startswith(("min_", "max_")) and not (math.isfinite(value) and value >= 0):
                raise PipelineError(f"{field.name}={value} is not allowed; use a number from 0")
        if self.max_imbalance < 1:
            raise PipelineError(f"max_imbalance={self.max_imbalance} is not allowed; use 1 (all classes equal) or more")
