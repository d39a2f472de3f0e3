"""The model artifact: SavedModel, Keras file, tflite file, labels and model card, which all give the same answers."""

import dataclasses
import importlib.metadata
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from components.artifacts import classifier, hub_card, objects
from components.artifacts.classifier import KERAS, SAVED_MODEL, TFLITE
from components.shared.calibration import fit_temperature, negative_log_likelihood, softmax
from components.shared.engines import FEATURES
from components.train import models
from components.train.result import TrainingResult
from components.train.worker import batches, embed, lite
from components.train.worker.floors import PROBE, Floor
from components.train.worker.input_pipeline import Examples
from components.train.worker.loop import Outcome
from components.train.worker.probe import Probe, better
from components.train.worker.session import Session

CALIBRATION_PICTURES = 200
COMPARED_PICTURES = 500
_PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "ai-edge-litert", "numpy")
INTENDED_USE = (
    "Suggests one of the labels for a picture of a museum object like those it was trained on, for search and "
    "cataloguing with a person who checks. Not for deciding what a work is, where it comes from or who owns it."
)


def export(outcome: Outcome, output: str) -> TrainingResult:
    """Calibrates what goes on; the chief writes every form of it into the local folder `output`.

    Raises:
        Preempted: SIGTERM came meanwhile; the same training exports again.
    """
    doing, session, state = "exporting the model", outcome.session, outcome.state
    network, scores, held_out = _chosen(outcome)
    session.stop.check(doing)
    labels = session.validation.labels
    temperature = fit_temperature(*(held_out or (scores, labels)))
    best = state.best_epoch if held_out is None else 0
    history = [*_probe_entry(outcome.probe, labels), *state.history]
    result = TrainingResult(
        model=session.settings.short_name,
        metrics={
            "validation_accuracy": float((scores.argmax(axis=1) == labels).mean()),
            "validation_loss": negative_log_likelihood(scores, labels),
            "validation_loss_calibrated": negative_log_likelihood(scores / temperature, labels),
            "temperature": temperature,
            "train_accuracy": next(entry["accuracy"] for entry in history if entry["epoch"] == best),
            "best_epoch": best,
            "epochs": len(state.history),
            **_cross_validated(held_out),
        },
        history=history,
        seconds=round(state.seconds, 3),
        images_per_second=round(state.timed_images / max(state.timed_seconds, 1e-9), 2),
        comparison=_comparison(outcome, scores, held_out is not None),
        tried=outcome.probe.tried if outcome.probe else {},
    )
    if session.chief:
        _save(network, outcome, result, output, doing)
        known = outcome.probe.features if outcome.probe and not best else None
        embed.write(session, network.get_layer("base"), known, output, softmax(scores / temperature))
        result.save(output)
    return result


def _chosen(outcome: Outcome) -> tuple[keras.Model, np.ndarray, tuple[np.ndarray, np.ndarray] | None]:
    """The network that goes on, its logits for the validation split, and logits and labels of cross-validation, if any.

    A fine-tuned network goes on only if it is better than the probe by more than the standard error. The probe's logits
    for the validation split are of the regression that has not seen it, while the one that goes on is fitted on it too.
    """
    session, probe = outcome.session, outcome.probe
    labels = session.validation.labels
    if probe is None or outcome.state.best_epoch:
        network = _with_weights(session, outcome.weights)
        scores = logits(network, session.validation, session.size, session.settings.evaluation_batch, session.view)
        if probe is None or better(scores.argmax(axis=1) == labels, probe.validation.argmax(axis=1) == labels):
            return network, scores, None
    print("the regression on frozen features goes on", flush=True)
    return _with_weights(session, outcome.probe_weights), probe.validation, (probe.held_out, probe.held_out_labels)


def _probe_entry(probe: Probe | None, labels: np.ndarray) -> list[dict[str, Any]]:
    if probe is None:
        return []
    return [
        {
            "epoch": 0, "phase": "probe", "accuracy": probe.train[0], "loss": probe.train[1],
            "validation_accuracy": probe.accuracy(labels),
            "validation_loss": negative_log_likelihood(probe.validation, labels),
        }
    ]  # fmt: skip


def _cross_validated(held_out: tuple[np.ndarray, np.ndarray] | None) -> dict[str, float]:
    if held_out is None:
        return {}
    return {"cross_validated_accuracy": float((held_out[0].argmax(axis=1) == held_out[1]).mean())}


def _comparison(outcome: Outcome, scores: np.ndarray, probed: bool) -> list[dict[str, Any]]:
    """What the model has to be compared with, by accuracy on the validation split; `taken` is what goes on."""
    labels = outcome.session.validation.labels
    rows = [floor.row(taken=probed and floor.name == PROBE) for floor in outcome.floors]
    if not probed:
        name = "fine-tuned" if outcome.probe else "trained model"
        rows.append(Floor.of(name, scores.argmax(axis=1) == labels).row(taken=True))
    elif outcome.state.best_epoch:
        tuned = outcome.state.history[outcome.state.best_epoch - 1]["validation_accuracy"]
        rows.append({"name": "fine-tuned", "accuracy": tuned, "examples": len(labels), "taken": False})
    return rows


def _with_weights(session: Session, weights: Sequence[np.ndarray]) -> keras.Model:
    """The session's network with `weights` in float32, outside any distribution strategy."""
    keras.config.set_dtype_policy("float32")
    model = session.build().model
    model.set_weights(weights)
    return model


def _save(model: keras.Model, outcome: Outcome, result: TrainingResult, output: str, doing: str) -> None:
    session = outcome.session
    temperature, info = result.metrics["temperature"], session.info
    objects.write_labels(Path(output, objects.LABELS), info.labels)
    model.save(os.path.join(output, KERAS))
    session.stop.check(doing)
    path = os.path.join(output, SAVED_MODEL)
    save_saved_model(model, info.labels, info.stored_size, temperature, path, session.view)
    session.stop.check(doing)
    Path(output, TFLITE).write_bytes(tflite(model, temperature))
    session.stop.check(doing)
    extra = {}
    if session.settings.quantize == "int8":
        extra = _quantize(model, temperature, session, os.path.join(output, TFLITE))
    classifier.write_samples(output, _samples(session.validation))
    _write_card(outcome, result, extra, output)


def _samples(validation: Examples) -> Iterator[bytes]:
    """Stored images from all over the validation split."""
    number = min(len(validation), classifier.SAMPLE_IMAGES)
    return (validation.encoded(int(row)) for row in np.linspace(0, len(validation) - 1, number))


def logits(model: keras.Model, examples: Examples, size: int, batch_size: int, view: str = "center") -> np.ndarray:
    """[n, classes] float32: the model's raw scores of all `examples`."""
    predict = tf.function(lambda images: model(tf.cast(images, tf.float32), training=False), autograph=False)
    parts = [predict(images).numpy() for images in batches.one_pass(examples, size, batch_size, view)]
    return np.concatenate(parts)[: len(examples)]


def save_saved_model(
    model: keras.Model, labels: Sequence[str], stored_size: int, temperature: float, path: str, view: str = "center"
) -> None:
    """Writes a SavedModel whose signatures take encoded images: `image_bytes` [batch] string.

    serving_default returns `probabilities` [batch, classes] float32 and `labels` [batch, classes] string (a row per
    image, as TensorFlow Serving's row format wants), FEATURES those and `features`. Images are decoded, resized to a
    short side of `stored_size` and cropped as in components.shared.imaging; what TensorFlow cannot do are EXIF
    orientation and colour profiles.
    """
    size = int(model.input_shape[1])
    module = tf.Module()
    module.model = joined = models.with_features(model)
    encoded = tf.TensorSpec([None], tf.string, name="image_bytes")

    @tf.function(input_signature=[encoded], autograph=False)
    def look(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        images = tf.map_fn(
            lambda data: model_input(data, stored_size, size, view),
            image_bytes,
            fn_output_signature=tf.TensorSpec([size, size, 3], tf.float32),
        )
        scores, features = joined(images, training=False)
        rows = tf.tile(tf.constant([list(labels)]), [tf.shape(image_bytes)[0], 1])
        return {"probabilities": tf.nn.softmax(scores / temperature), "labels": rows, FEATURES: features}

    @tf.function(input_signature=[encoded], autograph=False)
    def serve(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        found = look(image_bytes)
        return {name: found[name] for name in ("probabilities", "labels")}

    tf.saved_model.save(module, path, signatures={"serving_default": serve, FEATURES: look})


def model_input(data: tf.Tensor, stored_size: int, size: int, view: str = "center") -> tf.Tensor:
    """Encoded bytes to [size, size, 3] float32 of whole numbers 0..255, as components.shared.imaging.model_input."""
    image = tf.cond(
        tf.io.is_jpeg(data),
        lambda: tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE"),  # as the server decodes
        lambda: tf.io.decode_image(data, channels=3, expand_animations=False),
    )
    image.set_shape([None, None, 3])
    sides = tf.shape(image)[:2]
    short = tf.reduce_min(sides)
    scaled = tf.cast(tf.round(tf.cast(sides, tf.float64) * (stored_size / tf.cast(short, tf.float64))), tf.int32)
    target = tf.maximum(scaled, stored_size)
    pixels = tf.cond(
        tf.equal(short, stored_size),
        lambda: tf.cast(image, tf.float32),
        lambda: tf.image.resize(image, target, method="bilinear", antialias=True),
    )
    if view == "whole":
        rounded = tf.clip_by_value(tf.round(pixels), 0, 255)
        return tf.clip_by_value(tf.round(tf.image.resize(rounded, [size, size], antialias=True)), 0, 255)
    shape = tf.shape(pixels)
    top, left = (shape[0] - size) // 2, (shape[1] - size) // 2
    return tf.clip_by_value(tf.round(pixels[top : top + size, left : left + size]), 0, 255)


def tflite(model: keras.Model, temperature: float, representative: Iterator[np.ndarray] | None = None) -> bytes:
    """The model as tflite (see lite.convert): pixels to probabilities [1, classes], calibrated, and features."""

    def finish(values: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.nn.softmax(values[0] / temperature), values[1]

    return lite.convert(models.with_features(model), finish, representative)


def _quantize(model: keras.Model, temperature: float, session: Session, path: str) -> dict[str, float]:
    """Replaces the tflite file by its int8 form; returns what that costs in validation accuracy."""
    size = int(model.input_shape[1])
    before = tflite_probabilities(path, session.validation, size, session.view)
    pictures = (
        picture
        for batch in batches.one_pass(session.train, size, 1, session.view)
        for picture in [batch.numpy().astype(np.float32)]
    )
    chosen = [picture for picture, _ in zip(pictures, range(CALIBRATION_PICTURES))]
    Path(path).write_bytes(tflite(model, temperature, iter(chosen)))
    after = tflite_probabilities(path, session.validation, size, session.view)
    labels = session.validation.labels[: len(after)]
    accuracies = [float((rows.argmax(axis=1) == labels).mean()) for rows in (before, after)]
    print(f"int8: validation accuracy {accuracies[1]:.4f}, as float {accuracies[0]:.4f}", flush=True)
    return {"int8_accuracy": accuracies[1], "int8_accuracy_loss": accuracies[0] - accuracies[1]}


def tflite_probabilities(
    path: str, examples: Examples, size: int, view: str = "center", most: int = COMPARED_PICTURES
) -> np.ndarray:
    """[n, classes] float32 that the tflite file `path` answers for the first `most` examples."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    rows = []
    for picture, _ in zip(batches.one_pass(examples, size, 1, view), range(min(most, len(examples)))):
        interpreter.set_tensor(source, picture.numpy())
        interpreter.invoke()
        rows.append(interpreter.get_tensor(target)[0].copy())
    return np.stack(rows)


def _write_card(outcome: Outcome, result: TrainingResult, extra: Mapping[str, float], output: str) -> None:
    session, info, settings = outcome.session, outcome.session.info, outcome.session.settings
    probe = None if result.metrics["best_epoch"] else outcome.probe
    card = {
        "name": result.model,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "labels": list(info.labels),
        "stored_size": info.stored_size,
        "input_size": session.size,
        "view": session.view,
        "head": dataclasses.asdict(probe.choice) if probe else None,
        "comparison": result.comparison,
        "temperature": result.metrics["temperature"],
        "snapshot": info.snapshot,
        "metrics": {**result.metrics, **extra},
        "data": {f"examples_{name}": split.examples for name, split in info.splits.items()}
        | {"parameters": info.parameters},
        "parameters": dict(vars(settings)),
        "parameter_count": session.network.model.count_params(),
        "backbone": _backbone(session),
        "training": {"seconds": result.seconds, "images_per_second": result.images_per_second},
        "versions": _versions(),
        "intended_use": INTENDED_USE,
    }
    classifier.write_card(output, card)
    validation = {name: result.metrics[f"validation_{name}"] for name in ("accuracy", "loss")}
    hub_card.write(output, card, "validation", {"accuracy": validation["accuracy"], "log_loss": validation["loss"]})


def _backbone(session: Session) -> dict[str, Any]:
    """Where the network comes from, what its card says, and the digest of its weights."""
    card = dataclasses.asdict(session.entry.card)
    return {"model": session.settings.model, "digest": session.weights_hash, "card": card}


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
