"""Pre-trained weights: from keras.applications, or from a file in the store whose shapes say what it is for."""

import hashlib
import os
from typing import TYPE_CHECKING, Any

from components.shared.errors import PipelineError, TransientError
from components.shared.storage import storage
from components.train.backbones import short_name
from components.train.models import pre_trained_part
from components.train.zoo import IMAGENET, NONE, check_weights, entry

if TYPE_CHECKING:
    import keras


CHECKSUM = ".sha256"  # ending of the file beside one of weights with its checksum, as sha256sum writes it


class WeightsError(PipelineError):
    """Weights that do not fit the model; the message names what was expected and what was found."""


def fetch(weights: str, name: str, folder: str) -> str | None:
    """The weights that `weights` (none, imagenet or a URI) means for the model `name`, as a file in the local `folder`.

    None for none.

    Raises:
        ParameterError: the model has no ImageNet weights.
        TransientError: the ImageNet weights cannot be downloaded.
        StorageError: the file cannot be read.
        WeightsError: it is not what the checksum beside it says.
    """
    if weights in (NONE, ""):
        return None
    os.makedirs(folder, exist_ok=True)
    if weights == IMAGENET:
        return _imagenet(name, folder)
    path = os.path.join(folder, os.path.basename(weights))
    storage.download(weights, path)
    if storage.exists(weights + CHECKSUM):
        expected = storage.read_bytes(weights + CHECKSUM).decode(errors="replace").split()[:1]
        if [digest(path)] != expected:
            raise WeightsError(
                f"the weights file {weights} has not the sha256 that {weights}{CHECKSUM} says: copy both"
            )
    return path


def digest(path: str | None) -> str:
    """The sha256 of the weights file, empty for none: a URI may hold other weights tomorrow."""
    if path is None:
        return ""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def options(path: str | None, name: str) -> dict[str, Any]:
    """Builder options that the file tells: the width multiplier (alpha) of a MobileNet, by its first convolution."""
    if path is None or entry(name).builder != "MobileNet" or "alpha" in entry(name).options:
        return {}
    for shape in _shapes(path):
        if len(shape) == 4 and shape[:3] == (3, 3, 3):
            return {"alpha": shape[3] / 32}
    return {}


def load(base: "keras.Model", path: str, name: str) -> None:
    """Loads the weights file `path` into the network inside `base`. Raises WeightsError if it is for another one."""
    network = pre_trained_part(base)
    expected, found = sorted(tuple(weight.shape) for weight in network.weights), sorted(_shapes(path))
    # Compared first: where a file only partly fits, Keras warns and leaves the rest as it was.
    if expected != found:
        raise WeightsError(
            f"the weights file {os.path.basename(path)} is of another architecture: model={name} (without its top) has "
            f"{_summary(expected)}; the file has {_summary(found)}"
        )
    try:
        network.load_weights(path)
    except (ValueError, OSError, KeyError, IndexError) as error:
        raise WeightsError(f"the weights file {os.path.basename(path)} cannot be read: {error}") from error


def _summary(shapes: list[tuple[int, ...]]) -> str:
    convolutions = sorted(shape for shape in shapes if len(shape) == 4)
    first = " x ".join(map(str, next((s for s in convolutions if s[2] == 3), ()))) or "none"
    total = sum(_size(shape) for shape in shapes)
    return f"{len(shapes)} arrays, {total:,} values, first convolution {first}"


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for side in shape:
        size *= side
    return size


def _shapes(path: str) -> list[tuple[int, ...]]:
    import h5py

    found: list[tuple[int, ...]] = []
    try:
        with h5py.File(path) as file:
            file.visititems(lambda _, item: found.append(item.shape) if isinstance(item, h5py.Dataset) else None)
    except OSError as error:
        raise WeightsError(f"{os.path.basename(path)} is no Keras weights file (HDF5): {error}") from error
    return found


def _imagenet(name: str, folder: str) -> str:
    """Has keras.applications download (or find in its cache) the weights; saves them as a file of their own."""
    import keras

    check_weights(name, IMAGENET)
    architecture = entry(name)
    builder = getattr(keras.applications, architecture.builder)
    side = architecture.card.input_size
    try:
        network = builder(
            include_top=False, weights=IMAGENET, input_shape=(side, side, 3), pooling="avg", **architecture.options
        )
    except Exception as error:  # Keras raises a bare Exception when a download fails.
        raise TransientError(
            f"cannot download the ImageNet weights of {name} ({error}): where there is no internet, have python "
            f"pipeline.py fetch-weights {name} FOLDER_OR_URI put them into the store, and give weights=URI"
        ) from error
    path = os.path.join(folder, f"{short_name(name)}.weights.h5")
    network.save_weights(path)
    return path
