"""What a training run is asked to do: the parameters of the train step, checked and written as JSON."""

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path

from components.shared.parameters import LARGEST, ParameterError, all_between, between, choice, refuse
from components.train.backbones import SAVED, check_name, is_foreign, short_name
from components.train.models import smallest_image_size
from components.train.zoo import IMAGENET, NONE, check_weights

OPTIMIZERS = ("adamw", "sgd")
AUGMENTATIONS = ("none", "light", "strong")
BALANCES = ("none", "weights", "sampling")
PRECISIONS = ("auto", "float32", "bfloat16", "float16", "onednn_bf16")
QUANTIZATIONS = ("none", "int8")
HEADS = ("regression", "steps")
VIEWS = ("auto", "center", "whole", "mirrored")
AUTO = "auto"

_CHOICES = {
    "optimizer": OPTIMIZERS,
    "augmentation": AUGMENTATIONS,
    "balance": BALANCES,
    "precision": PRECISIONS,
    "quantize": QUANTIZATIONS,
    "head": HEADS,
    "view": VIEWS,
}
_BETWEEN = {
    "epochs": (1, 100_000),
    # Beyond 10 either optimizer only throws the weights about; below 1e-8 float32 weights do not move.
    "learning_rate": (1e-8, 10),
    "patience": (0, LARGEST),
    "checkpoint_every": (1, LARGEST),
    "workers": (1, 1000),
    "gpus": (0, 64),  # of one worker: no machine has more
    "max_restarts": (0, 1000),
    "seed": (0, 2**32 - 1),  # NumPy's
}
# Examples a replica: of 224 px, 4,096 take 2.5 GB as numbers before the first layer.
_MOST_EXAMPLES = 4096
# Up to so many examples, a batch that is larger than the training split costs next to nothing.
SMALL_BATCH = 32
# Kubernetes' name of an extended resource: domain/name.
_RESOURCE = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_EVALUATION_BATCH = 64
# Below so many examples fine-tuning seldom beats a regression on frozen features; auto gives it half an hour at most.
AUTO_EXAMPLES, AUTO_EPOCHS, AUTO_SECONDS = 2000, 8, 1800


@dataclass(frozen=True)
class Settings:
    """The parameters of `components/train/component.py`; pipeline.py says what each means.

    `model` may list several names, comma-separated; a worker trains one of them.
    """

    snapshot: str
    logs: str
    model: str
    weights: str
    head: str
    view: str
    epochs: int
    fine_tune_epochs: str
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
            choice(name, getattr(self, name), allowed)
        all_between(self, _BETWEEN)
        self._check_devices()
        self._check_models()

    def _check_devices(self) -> None:
        if self.gpus and not _RESOURCE.fullmatch(self.accelerator):
            raise refuse("accelerator", self.accelerator, f"gpus={self.gpus} needs its name, such as nvidia.com/gpu")
        if self.gpus > 1 and "/mig-" in self.accelerator:
            raise refuse("gpus", self.gpus, f"a process sees one slice of {self.accelerator}; use 1, and more workers")
        if self.gpus and self.precision == "onednn_bf16":
            raise refuse("precision", self.precision, f"it is for CPUs, and gpus={self.gpus}; use auto or bfloat16")
        between("batch_size", self.batch_size, 1, _MOST_EXAMPLES * self.replicas)
        if self.batch_size % self.replicas:
            use = f"{self.replicas} replicas (workers={self.workers}, gpus={self.gpus} each) share it equally"
            raise refuse("batch_size", self.batch_size, f"{use}; use {self._divisible()}")

    def _check_models(self) -> None:
        if not self.models:
            raise refuse("model", self.model, "name a model, such as simple_cnn")
        for name in self.models:
            check_name(name)
            if not is_foreign(name):
                check_weights(name, self.weights)
        takers = [name for name in self.models if not is_foreign(name)]
        if len(takers) != 1 and self.weights not in (IMAGENET, NONE, ""):
            use = f"one file does not fit {len(takers)} models; name one model"
            use = use if takers else f"{self.models[0]} brings its own; use none"
            raise refuse("weights", self.weights, use)
        if self.view not in (AUTO, "center") and not self.probes:
            use = "only head=regression on pre-trained weights chooses what is seen; use auto"
            raise refuse("view", self.view, use)
        if self.fine_tune_epochs == AUTO:
            return
        if not self.fine_tune_epochs.isdecimal() or int(self.fine_tune_epochs) > 100_000:
            raise refuse("fine_tune_epochs", self.fine_tune_epochs, "use auto, or a whole number from 0 to 100000")
        if int(self.fine_tune_epochs) and not self.pre_trained:
            use = f"with weights={self.weights or NONE} there is nothing to fine-tune; use 0, or weights=imagenet"
            raise refuse("fine_tune_epochs", self.fine_tune_epochs, use)
        if int(self.fine_tune_epochs) and all(name.startswith(SAVED) for name in self.models):
            use = "what saved: names stays frozen; use 0, or hub: with a folder of the network and its weights"
            raise refuse("fine_tune_epochs", self.fine_tune_epochs, use)

    @property
    def models(self) -> tuple[str, ...]:
        """The names in `model`, in order, each once."""
        return tuple(dict.fromkeys(name.strip() for name in self.model.split(",") if name.strip()))

    @property
    def short_name(self) -> str:
        """The one model's name for files, logs and pages."""
        return short_name(self.model)

    @property
    def pre_trained(self) -> bool:
        """Whether training, of one of the models at least, starts from weights of an earlier one."""
        return self.weights not in (NONE, "") or any(is_foreign(name) for name in self.models)

    @property
    def probes(self) -> bool:
        """Whether the head is a logistic regression on frozen features."""
        return self.pre_trained and self.head == "regression"

    def tuning_epochs(self, examples: int, seconds: float) -> int:
        """How many epochs fine-tune the upper part; `auto` tries where there is enough to learn from, and time.

        Args:
            examples: of the training split.
            seconds: that the frozen network takes for one of them, on all workers together.
        """
        if not self.pre_trained or self.model.startswith(SAVED):
            return 0
        if self.fine_tune_epochs != AUTO:
            return int(self.fine_tune_epochs)
        # Three passes' worth: forward, backward by activations and by weights.
        affordable = 3 * seconds * examples * AUTO_EPOCHS <= AUTO_SECONDS
        return AUTO_EPOCHS if examples >= AUTO_EXAMPLES and affordable else 0

    @property
    def replicas(self) -> int:
        """How many copies of the model train together: every GPU of every worker, or a worker's CPU."""
        return self.workers * max(self.gpus, 1)

    @property
    def evaluation_batch(self) -> int:
        """Examples of an evaluation batch: at most as many as are trained at once, and a multiple of the replicas."""
        return -(-min(_EVALUATION_BATCH, self.batch_size) // self.replicas) * self.replicas

    def less_memory(self, image_size: int | None = None) -> str:
        """What to try after memory ran out, in parameters: a smaller batch, smaller images (stored at `image_size`)."""
        tries = []
        if batch := self.batch_size // 2 // self.replicas * self.replicas:
            tries.append(f"batch_size={batch}")
        if image_size is None:
            tries.append("a smaller image_size")
        else:
            smaller = max(smallest_image_size(self.models[0], self.pre_trained), image_size * 3 // 4)
            if smaller < image_size:
                tries.append(f"image_size={smaller}")
        return "try " + ", or ".join([*tries, "more memory"])

    def for_model(self, name: str) -> "Settings":
        """The same settings for the one model `name`."""
        return dataclasses.replace(self, model=name)

    def to_json(self) -> str:
        """One JSON object with every field."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Settings":
        """The settings that `to_json` wrote. Raises ParameterError if a field is missing, unknown or not allowed."""
        values = json.loads(text)
        fields = {field.name for field in dataclasses.fields(cls)}
        if wrong := sorted(fields ^ set(values)):
            raise ParameterError(f"these settings are missing or unknown: {', '.join(wrong)}")
        return cls(**values)

    def save(self, path: str) -> None:
        """Writes `to_json` to `path`."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    def _divisible(self) -> str:
        below = self.batch_size // self.replicas * self.replicas
        return " or ".join(str(size) for size in (below, below + self.replicas) if size)
