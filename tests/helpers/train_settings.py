"""Settings of the train step for tests: small ones, with what a test changes."""

from components.train.launcher.resources import Resources
from components.train.settings import Settings

NO_RESOURCES = Resources("", "", "", "")

_SMALL = {
    "snapshot": "5" * 64,
    "logs": "",
    "model": "simple_cnn",
    "weights": "none",
    "head": "steps",
    "view": "auto",
    "epochs": 2,
    "fine_tune_epochs": "0",
    "batch_size": 16,
    "optimizer": "adamw",
    "learning_rate": 0.001,
    "augmentation": "none",
    "balance": "none",
    "precision": "float32",
    "quantize": "none",
    "patience": 0,
    "checkpoint_every": 200,
    "workers": 1,
    "accelerator": "nvidia.com/gpu",
    "gpus": 0,
    "max_restarts": 3,
    "seed": 1,
}


def settings(**changes: object) -> Settings:
    """The train step's settings."""
    return Settings(**{**_SMALL, **changes})
