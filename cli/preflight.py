"""Checks of what this machine has, before a local run does hours of work that its end will refuse."""

import glob
import importlib.util
from typing import Any

from components.shared.errors import PipelineError
from components.shared.storage import storage

_FILES = ("train_weights", "label_map", "label_corrections", "check_previous_dataset")
_NO_FILES = ("", "none", "imagenet")
# One library of each stage, by which the stage's extra is known to be installed.
_LIBRARIES = ("duckdb", "aiohttp", "simplejpeg", "tensorflow", "sklearn", "starlette")

_HUB = ("keras_hub", "regex", "tokenizers", "safetensors")


def check(values: dict[str, Any]) -> None:
    """Raises PipelineError if a file that a parameter names, a GPU that is wanted, or a stage's library is not here."""
    if missing := [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]:
        raise PipelineError(f"{', '.join(missing)} not installed here: make run, or pip install --editable '.[local]'")
    for name in _FILES:
        uri = str(values[name])
        if uri not in _NO_FILES and storage.local_path(uri) is not None and not storage.exists(uri):
            raise PipelineError(f"{name}={uri}: there is no such file; give a path or URI" + _or_word(name))
    classes = str(values["check_expected_classes"])
    if classes.endswith(".txt") and storage.local_path(classes) is not None and not storage.exists(classes):
        raise PipelineError(f"expected_classes={classes}: there is no such file; give a path or URI, or the names")
    _check_hub(values)
    present = len(glob.glob("/dev/nvidia[0-9]*"))
    if values["train_gpus"] > present:
        raise PipelineError(
            f"gpus={values['train_gpus']} was asked for and this machine has {present}: set gpus=0 for the CPU"
        )


def _check_hub(values: dict[str, Any]) -> None:
    missing = [name for name in _HUB if importlib.util.find_spec(name) is None]
    if missing and any(name.strip().startswith("hub:") for name in values["train_model"].split(",")):
        packages = "keras-hub==0.32.0 regex tokenizers safetensors"
        raise PipelineError(
            f"model=hub: needs {', '.join(missing)}, not installed here: make run, or python -m pip install --no-deps "
            f"{packages}"
        )


def _or_word(name: str) -> str:
    return ", or imagenet or none" if name == "train_weights" else ""
