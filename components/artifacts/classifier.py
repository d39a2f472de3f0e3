"""The trained classifier as evaluation, the server and the command line use it: one image, one answer everywhere.

A classifier is a folder (or its URI) that train writes:

    model.tflite     pixels [1, M, M, 3], 0 to 255, to probabilities [1, classes] and features [1, width], float32;
                     what the server runs
    1/               SavedModel for TensorFlow Serving: encoded images to probabilities and labels, preprocessing
                     inside; another signature returns `features` [batch, width] too
    model.keras      pixels to logits, to train on with
    labels.txt       the classes, in the order of the probabilities
    model_card.json  name, created, labels, stored_size and input_size (pixels), temperature, snapshot and data (what
                     it was trained on), metrics, parameters, parameter_count, training, versions, intended_use
    samples.zip      up to SAMPLE_IMAGES stored images of the validation split: a server tries a faster engine on them
    uncertainty.npz  when it says "I do not know": components.artifacts.uncertainty; models of before have none

All forms give the same answers. One of the first two, labels and card are enough to load it.
"""

import hashlib
import io
import json
import os
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterable

import numpy as np

from components.artifacts import uncertainty
from components.artifacts.objects import LABELS, read_labels
from components.artifacts.uncertainty import COVERAGE, Decision, Uncertainty
from components.shared import engines, imaging
from components.shared.engines import ENGINES, LITE_ENGINES, ModelError
from components.shared.storage import storage

SAVED_MODEL, KERAS, TFLITE, CARD = "1", "model.keras", "model.tflite", "model_card.json"
SAMPLES, SAMPLE_IMAGES = "samples.zip", 64


class Classifier:
    """A loaded model; safe to use from several threads, which take turns.

    Attributes:
        labels: the classes, in the order of the probabilities.
        card: what `model_card.json` says.
        engine: one of components.shared.engines.ENGINES.
        digest: SHA-256 over the model's files: the version of this classifier.
        uncertainty: when it says that it does not know; None for a model of an earlier release.
    """

    def __init__(
        self,
        labels: list[str],
        card: dict,
        engine: str,
        digest: str,
        run: Callable,
        uncertainty: Uncertainty | None = None,
    ) -> None:
        self.labels, self.card, self.engine, self.digest = labels, card, engine, digest
        self.uncertainty = uncertainty
        self._run = run
        self._lock = threading.Lock()

    def predict(self, images: list[bytes]) -> np.ndarray:
        """Probabilities, [len(images), classes] float32, of encoded images (JPEG, PNG, WebP, ...).

        Raises:
            imaging.ImageError: one of them is no image; nothing was predicted.
        """
        return self.look(images)[0]

    def look(self, images: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """The probabilities, and the features that the head read: [len(images), width] float32, both from one pass.

        The width is 0 where a model of an earlier release gives no features.

        Raises:
            imaging.ImageError: one of them is no image; nothing was predicted.
        """
        pictures = [self._prepared(image) for image in images]
        with self._lock:
            found = [self._run(picture) for picture in pictures]
        if not found:
            return np.empty([0, len(self.labels)], np.float32), np.empty([0, 0], np.float32)
        rows, features = zip(*found)
        return np.stack(rows).astype(np.float32, copy=False), np.stack(features)

    def view(self, image: bytes) -> np.ndarray:
        """The square that the model sees of an encoded image, [M, M, 3] uint8. Raises imaging.ImageError."""
        return imaging.model_input(image, self.card["stored_size"], self.card.get("view", "center"))

    def predict_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Probabilities [n, classes] float32 of what `view` returns, [n, M, M, 3] uint8."""
        if self.engine in LITE_ENGINES:
            with self._lock:
                return np.stack([self._run(each)[0] for each in pixels])
        return self.predict([_png(self._framed(each)) for each in pixels])

    def _framed(self, pixels: np.ndarray) -> np.ndarray:
        """A stored image of which the model sees just these `pixels`."""
        stored, side = self.card["stored_size"], len(pixels)
        if self.card.get("view") == "whole":
            return imaging.resize(pixels, stored, stored)
        frame, top = np.zeros([stored, stored, 3], np.uint8), (stored - side) // 2
        frame[top : top + side, top : top + side] = pixels
        return frame

    def ranking(self, row: np.ndarray, top: int | None = None) -> list[tuple[str, float]]:
        """The `top` likeliest labels (None: all) of one row of probabilities, best first; of equals the first label.

        Six digits are all that float32 says of a probability; the order is that of the unrounded ones.
        """
        order = np.argsort(-row, kind="stable")[:top]
        return [(self.labels[index], round(float(row[index]), 6)) for index in order]

    def decide(self, rows: np.ndarray, features: np.ndarray, coverage: float = COVERAGE) -> list[Decision]:
        """A label for each image, or none where the model does not know; of what `look` returned.

        Raises:
            ModelError: the model is of an earlier release, which did not measure what it does not know.
            ParameterError: `coverage` is not between 0 and 1.
        """
        uncertainty.check_coverage(coverage)
        return self.check_decides().decide(self.labels, rows, features, coverage)

    def check_decides(self) -> Uncertainty:
        """What `decide` decides by. Raises ModelError: the model is of an earlier release."""
        if self.uncertainty is None:
            raise ModelError(
                "this model cannot say what it does not know: it was trained by an earlier release; train it again"
            )
        return self.uncertainty

    def check(self) -> None:
        """Predicts one real image. Raises ModelError unless the answer is a probability for each label."""
        pixels = np.indices((48, 64)).sum(axis=0, dtype=np.uint8)
        picture = imaging.encode_jpeg(np.repeat(pixels[:, :, None], 3, axis=2), 90)
        row = self.predict([picture])[0]
        if not np.isfinite(row).all() or abs(float(row.sum()) - 1) > 0.05:
            raise ModelError(f"the model answers with {row.sum():.3g} in all, not with probabilities: export it again")

    def _prepared(self, image: bytes) -> np.ndarray | bytes:
        stored = self.card["stored_size"]
        if self.engine in LITE_ENGINES:
            return self.view(image)
        # The SavedModel decodes and crops by itself. It gets the stored image, lossless, so that formats which
        # TensorFlow cannot decode work too and the resizing is the same one.
        return _png(imaging.resize_short_side(imaging.decode(image, stored), stored))


def load(directory: str, engine: str = "litert") -> Classifier:
    """Loads the classifier in `directory`, a path or a URI; a remote one is copied to a temporary folder first.

    Raises:
        ModelError: `directory` is no classifier, or its parts do not fit each other.
        storage.StorageError: it cannot be read.
    """
    if engine not in ENGINES:
        raise ModelError(f"no engine {engine!r}; there are {', '.join(ENGINES)}")
    path = storage.local_path(directory)
    if path is None:
        with tempfile.TemporaryDirectory(prefix="classifier-") as copy:
            download(directory, copy, engine)
            return _load_local(copy, engine)
    return _load_local(path, engine)


def download(uri: str, directory: str, engine: str = "litert") -> None:
    """Copies of the classifier at `uri` the files that `engine` needs into `directory`. Raises as `load` does."""
    sizes = {file.uri.removeprefix(uri.rstrip("/") + "/"): file.size for file in storage.list_files(uri)}
    for name in [*_needed(sizes, engine, uri), *(name for name in [SAMPLES] if name in sizes)]:
        target = os.path.join(directory, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        storage.download(storage.join(uri, name), target)


def digest(directory: str, engine: str = "litert") -> str:
    """SHA-256 (hex) over names and contents of the local files that `engine` loads. Raises ModelError."""
    total = hashlib.sha256()
    for name in _needed(_local_names(directory), engine, directory):
        with open(os.path.join(directory, name), "rb") as file:
            total.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def lite_file(directory: str) -> str:
    """The path of the LiteRT model of a local classifier. Raises ModelError."""
    return os.path.join(directory, _needed(_local_names(directory), engines.LITERT, directory)[0])


def read_card(directory: str) -> dict:
    """The model card of a local classifier. Raises ModelError: it is missing, no JSON, or lacks a size."""
    path = os.path.join(directory, CARD)
    try:
        with open(path, encoding="utf-8") as file:
            card = json.load(file)
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    if not isinstance(card, dict) or not isinstance(card.get("stored_size"), int):
        raise ModelError(f"{path} has no stored_size: write the model card that the training step writes")
    return card


def write_card(directory: str, card: dict) -> None:
    """Writes the model card of a local classifier. Raises OSError."""
    with open(os.path.join(directory, CARD), "w", encoding="utf-8") as file:
        file.write(json.dumps(card, indent=1, ensure_ascii=False) + "\n")


def write_samples(directory: str, images: Iterable[bytes]) -> None:
    """Writes encoded images (JPEG) beside a local classifier. Raises OSError."""
    with zipfile.ZipFile(os.path.join(directory, SAMPLES), "w") as archive:
        for number, image in enumerate(images):
            archive.writestr(zipfile.ZipInfo(f"{number:02}.jpg"), image)


def read_samples(directory: str) -> list[bytes]:
    """The encoded images beside a local classifier; none where there is no such file. Raises ModelError."""
    path = os.path.join(directory, SAMPLES)
    if not os.path.exists(path):
        return []
    try:
        with zipfile.ZipFile(path) as archive:
            return [archive.read(name) for name in archive.namelist()[:SAMPLE_IMAGES]]
    except (OSError, zipfile.BadZipFile) as error:
        raise ModelError(f"cannot read {path}: {error}") from error


def sizes(directory: str) -> tuple[int, int]:
    """Bytes of the LiteRT model and of the SavedModel in a classifier's folder; 0 for one that is not there."""
    files = storage.list_files(directory)
    lite = sum(file.size for file in files if file.uri.endswith(".tflite"))
    saved = f"/{SAVED_MODEL}/"
    return lite, sum(file.size for file in files if file.uri.removeprefix(directory.rstrip("/")).startswith(saved))


def _load_local(directory: str, engine: str) -> Classifier:
    if not os.path.isdir(directory):
        wanted = f"{LABELS} and {TFLITE} or {SAVED_MODEL}/"
        raise ModelError(f"there is no folder {directory}: give the folder with {wanted}")
    needed = _needed(_local_names(directory), engine, directory)
    card, labels = read_card(directory), read_labels(os.path.join(directory, LABELS))
    if card.get("labels", labels) != labels:
        raise ModelError(f"{LABELS} and {CARD} in {directory} name different labels: they are not of one model")
    network = _network(os.path.join(directory, needed[0]), card["stored_size"], engine)
    if network.classes not in (None, len(labels)):
        raise ModelError(f"{needed[0]} in {directory} has {network.classes} classes, "
                         f"but {LABELS} has {len(labels)} lines")  # fmt: skip
    doubt = _uncertainty(directory) if uncertainty.FILE_NAME in needed else None
    return Classifier(labels, card, engine, digest(directory, engine), network.run, doubt)


def _uncertainty(directory: str) -> Uncertainty:
    path = os.path.join(directory, uncertainty.FILE_NAME)
    try:
        return uncertainty.load(path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"cannot read {path}: {error}; copy the whole folder, or train the model again") from error


def _network(path: str, stored_size: int, engine: str) -> engines.Network:
    """The model's file in an engine; ModelError where it does not fit the size of the stored images."""
    if engine not in LITE_ENGINES:
        return engines.load(os.path.dirname(path), engine)
    network, size = engines.load(path, engine), imaging.input_size(stored_size)
    if network.shape != (1, size, size, 3):
        shape = " x ".join(map(str, network.shape))
        raise ModelError(f"{path} takes {shape}, but stored_size {stored_size} in {CARD} gives {size} pixels")
    return network


def _needed(names: list[str] | dict, engine: str, where: str) -> list[str]:
    """The files that `engine` loads, the model's first; ModelError if there are none or two models."""
    marker = "/saved_model.pb" if engine == "savedmodel" else ".tflite"
    models = [name for name in sorted(names) if name.endswith(marker) and name.count("/") == marker.count("/")]
    wanted = f"a SavedModel {SAVED_MODEL}/" if engine == "savedmodel" else TFLITE
    if not models:
        inside = ", ".join(sorted({name.split("/")[0] for name in names})[:6]) or "nothing"
        raise ModelError(f"no model in {where}: expected {wanted}, found {inside}; give the classifier's own folder")
    if len(models) > 1:
        raise ModelError(f"{len(models)} models in {where} ({', '.join(models)}): leave only the one to be used")
    missing = [name for name in (LABELS, CARD) if name not in names]
    if missing:
        raise ModelError(f"{where} has {models[0]} but no {' and no '.join(missing)}: copy the whole folder")
    folder = os.path.dirname(models[0])
    parts = [name for name in sorted(names) if folder and name.startswith(folder + "/") and name not in models]
    doubt = [uncertainty.FILE_NAME] if uncertainty.FILE_NAME in names else []
    return [*models, *parts, LABELS, CARD, *doubt]


def _local_names(directory: str) -> list[str]:
    return [os.path.relpath(file.uri, directory) for file in storage.list_files(directory)]


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png", compress_level=1)
    return buffer.getvalue()
