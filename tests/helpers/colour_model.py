"""A real classifier in the layout that training writes, small enough to build in a test: which colour prevails?"""

import json
import os
from pathlib import Path

import numpy as np

from components.artifacts import uncertainty
from tests.helpers.once import once

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 50, 220)}


def build(
    directory: str | Path, stored_size: int = 64, labels: list[str] | None = None, saved_model: bool = True
) -> str:
    """Writes a classifier into `directory`: labels after the first three are never likely. Returns the directory.

    Its probabilities are the softmax of ten times the mean colour (0 to 1), so a test can compute them itself. Its
    features are the mean colour and how much the picture varies: one of stripes is unlike those that it knows.
    """
    import tensorflow as tf

    from components.shared.imaging import input_size

    labels = labels or list(COLOURS)
    size = input_size(stored_size)
    os.makedirs(directory, exist_ok=True)

    def means(pixels: "tf.Tensor") -> "tf.Tensor":
        return tf.reduce_mean(tf.cast(pixels, tf.float32) / 255.0, axis=[1, 2])

    def probabilities(pixels: "tf.Tensor") -> "tf.Tensor":
        padding = tf.fill([tf.shape(pixels)[0], len(labels) - 3], -1.0)
        return tf.nn.softmax(10.0 * tf.concat([means(pixels), padding], axis=1))

    def look(pixels: "tf.Tensor") -> tuple:
        variation = tf.math.reduce_std(tf.cast(pixels, tf.float32) / 255.0, axis=[1, 2])
        return probabilities(pixels), tf.concat([means(pixels), 4.0 * variation], axis=1)

    module = tf.Module()
    lite = tf.function(look, input_signature=[tf.TensorSpec([1, size, size, 3], tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([lite.get_concrete_function()])
    Path(directory, "model.tflite").write_bytes(converter.convert())
    _uncertainty(labels, stored_size).save(str(directory))
    if saved_model:
        classify = _signature(probabilities, labels, stored_size, size)
        tf.saved_model.save(module, os.path.join(directory, "1"), signatures=classify)
    Path(directory, "labels.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")
    Path(directory, "model_card.json").write_text(json.dumps(card(labels, stored_size, size), indent=1))
    return str(directory)


def build_once(tmp_path_factory) -> str:
    """The classifier of three colours, built once for all of pytest's worker processes: TensorFlow starts slowly."""
    return str(once(tmp_path_factory, "classifier-of-colours", build))


def card(labels: list[str], stored_size: int, size: int) -> dict:
    """The model card that training would write for it."""
    return {
        "name": "colours",
        "labels": labels,
        "stored_size": stored_size,
        "input_size": size,
        "temperature": 1.0,
        "snapshot": "0" * 64,
        "created": "2026-01-02T03:04:05Z",
        "versions": {},
        "parameters": {"model": "mean_colour"},
        "metrics": {"validation_accuracy": 0.9375},
        "data": {"examples_train": 480},
        "intended_use": "Tests of the server.",
    }


def picture(colour: str = "red", width: int = 80, height: int = 60, seed: int = 0, quality: int = 90) -> bytes:
    """A JPEG in which `colour` prevails, with some noise."""
    from components.shared.imaging import encode_jpeg

    noise = np.random.default_rng(seed).integers(-25, 25, (height, width, 3))
    return encode_jpeg(np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype(np.uint8), quality)


def _uncertainty(labels: list[str], stored_size: int) -> uncertainty.Uncertainty:
    """As training would have measured it on 120 pictures of the three colours, and 40 of no colour."""
    from components.shared.imaging import model_input

    known = [(seed % 3, picture(list(COLOURS)[seed % 3], seed=1000 + seed)) for seed in range(120)]
    known += [(seed % 3, mixed(1000 + seed)) for seed in range(40)]
    shares = np.stack([model_input(data, stored_size) for _, data in known]) / 255
    means = shares.mean(axis=(1, 2))
    scores = np.exp(10 * np.hstack([means, np.full((len(known), len(labels) - 3), -1.0)]))
    variation = 4 * shares.std(axis=(1, 2)) * np.random.default_rng(1).uniform(0, 1.5, (len(known), 1))
    features = np.hstack([means, variation])
    targets = np.array([target for target, _ in known])
    return uncertainty.fit(scores / scores.sum(axis=1, keepdims=True), targets, features[::2], features)


def striped() -> bytes:
    """A JPEG of black and white stripes: unlike all that the model knows."""
    from components.shared.imaging import encode_jpeg

    return encode_jpeg(np.tile(np.repeat([0, 255], 8)[None, :, None], (64, 5, 3)).astype(np.uint8), 90)


def mixed(seed: int = 0) -> bytes:
    """A JPEG of no colour, of which the model is not sure."""
    from components.shared.imaging import encode_jpeg

    noise = np.random.default_rng(seed).integers(-25, 25, (60, 80, 3))
    return encode_jpeg((np.array([120, 110, 100]) + noise).astype(np.uint8), 90)


def _signature(probabilities, labels: list[str], stored_size: int, size: int):
    import tensorflow as tf

    def pixels(image: "tf.Tensor") -> "tf.Tensor":
        decoded = tf.io.decode_image(image, channels=3, expand_animations=False)
        shape = tf.cast(tf.shape(decoded)[:2], tf.float32)
        target = tf.cast(tf.round(shape * stored_size / tf.reduce_min(shape)), tf.int32)
        resized = tf.image.resize(decoded, target, antialias=True)
        top, left = (target[0] - size) // 2, (target[1] - size) // 2
        return tf.ensure_shape(resized[top : top + size, left : left + size], [size, size, 3])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="images")])
    def classify(images: "tf.Tensor") -> dict:
        batch = tf.map_fn(pixels, images, fn_output_signature=tf.float32)
        return {"probabilities": probabilities(batch), "labels": tf.constant(labels)}

    return classify
