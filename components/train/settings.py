"""What a training run is asked to do: the parameters of the train step, checked and written as JSON."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from components.train.choice import SettingsError, check_choice
from components.train.models import check_name, check_weights

OPTIMIZERS = ("adamw", "sgd")
AUGMENTATIONS = ("none", "light", "strong")
BALANCES = ("none", "weights", "sampling")
PRECISIONS = ("auto", "float32", "bfloat16", "float16", "onednn_bf16")
QUANTIZATIONS = ("none", "int8")

_CHOICES = {
    "optimizer": OPTIMIZERS,
    "augmentation": AUGMENTATIONS,
    "balance": BALANCES,
    "precision": PRECISIONS,
    "quantize": QUANTIZATIONS,
}
_AT_LEAST = {
    "epochs": 1,
    "fine_tune_epochs": 0,
    "batch_size": 1,
    "patience": 0,
    "checkpoint_every": 1,
    "workers": 1,
    "gpus": 0,
    "max_restarts": 0,
}
_LARGEST_SEED = 2**32 - 1  # NumPy's


@dataclass(frozen=True)
class Settings:
    """The parameters of `components/train/component.py`, which documents nothing twice: see pipeline.py.

    `model` may list several names, comma-separated; a worker trains one of them.
    """

    snapshot: str
    logs: str
    model: str
    weights: str
    epochs: int
    fine_tune_epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    augmentation: str
    balance: str
    precision: str
    quantize: str
    patience: int
    checkpoint_every: int
    workers: int
    accelerator: str
    gpus: int
    max_restarts: int
    seed: int

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            check_choice(name, getattr(self, name), allowed)
        for name, minimum in _AT_LEAST.items():
            if getattr(self, name) < minimum:
                raise SettingsError(f"{name}={getattr(self, name)} is not allowed: it must be at least {minimum}")
        if not 0 < self.learning_rate <= 1000:
            raise SettingsError(
                f"learning_rate={self.learning_rate} is not allowed: it must be above 0 and at most 1000"
            )
        if not 0 <= self.seed <= _LARGEST_SEED:
            raise SettingsError(f"seed={self.seed} is not allowed: it must be between 0 and {_LARGEST_SEED}")
        if self.gpus and not self.accelerator:
            raise SettingsError(f"gpus={self.gpus} needs accelerator=NAME, such as nvidia.com/gpu; or set gpus=0")
        if self.batch_size % self.replicas:
            raise SettingsError(
                f"batch_size={self.batch_size} cannot be shared equally by {self.replicas} replicas "
                f"(workers={self.workers}, gpus={self.gpus} each); try {self._divisible()}"
            )
        if not self.models:
            raise SettingsError(f"model={self.model!r} is empty: name a model, such as simple_cnn")
        for name in self.models:
            check_name(name)
            check_weights(name, self.weights)

    @property
    def models(self) -> tuple[str, ...]:
        """The names in `model`, in order, each once."""
        return tuple(dict.fromkeys(name.strip() for name in self.model.split(",") if name.strip()))

    @property
    def pre_trained(self) -> bool:
        """Whether training starts from weights of an earlier one."""
        return self.weights not in ("none", "")

    @property
    def replicas(self) -> int:
        """How many copies of the model train together: every GPU of every worker, or a worker's CPU."""
        return self.workers * max(self.gpus, 1)

    def for_model(self, name: str) -> "Settings":
        """The same settings for the one model `name`."""
        return dataclasses.replace(self, model=name)

    def to_json(self) -> str:
        """One JSON object with every field."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Settings":
        """The settings that `to_json` wrote. Raises SettingsError if a field is missing, unknown or not allowed."""
        values = json.loads(text)
        fields = {field.name for field in dataclasses.fields(cls)}
        if wrong := sorted(fields ^ set(values)):
            raise SettingsError(f"these settings are missing or unknown: {', '.join(wrong)}")
        return cls(**values)

    def save(self, path: str) -> None:
        """Writes `to_json` to `path`."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    def _divisible(self) -> str:
        below = self.batch_size // self.replicas * self.replicas
        return " or ".join(str(size) for size in (below, below + self.replicas) if size)
