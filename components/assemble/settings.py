"""Parameters of the assemble step."""

from dataclasses import dataclass

from components.shared.parameters import LARGEST, all_between, choice

CONFLICTS = ("exclude", "keep", "fail")
# Beyond this, every image resembles every other.
_LARGEST_DISTANCE = 12
_BETWEEN = {
    "duplicate_distance": (-1, _LARGEST_DISTANCE),
    "min_examples_per_class": (0, LARGEST),
    "min_eval_examples_per_class": (0, LARGEST),
    "max_imbalance": (1, LARGEST),  # 1: all classes equal
    "max_failed_fraction": (0, 1),
    "max_enlarged_fraction": (0, 1),
    "max_drift": (0, LARGEST),
}


@dataclass(frozen=True)
class Settings:
    """Parameters of the assemble step, as pipeline.py describes them.

    Raises:
        ParameterError: a value is not allowed; the message names what is.
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

    def __post_init__(self) -> None:
        choice("conflicts", self.conflicts, CONFLICTS)
        all_between(self, _BETWEEN)
