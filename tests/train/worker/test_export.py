"""Every model of the zoo in every form that is exported: they must give the same answers."""

import json
import os
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from components.artifacts import classifier
from components.artifacts.objects import write_labels
from components.shared import imaging
from components.shared.calibration import softmax
from components.train import models
from components.train.worker import export, weights
from components.train.zoo import ZOO
from tests.helpers.louvre import needs_louvre
from tests.helpers.random_weights import enliven
from tests.helpers.stripes import LABELS, stripes

DATA = Path(__file__).parents[4] / "shared/data"
TEMPERATURE = 1.3
TOLERANCE = 2e-4
# Of probabilities. This one differs by 7e-4 in tflite with random weights; why was not looked into.
TOLERANCES = {"efficientnet_v2_s": 2e-3}
SMALL = ("simple_cnn", "mobilenet_025")  # the others are only converted in the slow run
# Half a minute and more each, or built as one that is converted in any case.
LARGE = (
    "inception_resnet_v2", "efficientnet_v2_b0", "efficientnet_v2_s", "resnet101", "convnext_tiny", "vgg19",
    "mobilenet", "mobilenet_075", "mobilenet_050", "mobilenet_v3_large",
)  # fmt: skip


def _marks(name: str) -> list:
    if name in LARGE:
        return [pytest.mark.slow, pytest.mark.skipif("ZOO" not in os.environ, reason="make test-zoo converts it")]
    return [] if name in SMALL else [pytest.mark.slow]


def with_lively_answers(name: str, image_size: int) -> keras.Model:
    """The model with random weights, and a head so large that its answers differ from picture to picture."""
    keras.utils.set_random_seed(1)
    network = models.build(name, imaging.input_size(image_size), len(LABELS))
    enliven(network.base)
    features = network.base(pixels(pictures(image_size), image_size), training=False).numpy()
    kernel, bias = network.head.weights
    scale = 1 / np.abs(features - features.mean(axis=0)).max()
    drawn = np.random.default_rng(1).normal(0, scale, kernel.shape) / kernel.shape[0] ** 0.5
    kernel.assign(drawn)
    bias.assign(-features.mean(axis=0) @ drawn)
    return network.model


def pictures(image_size: int) -> list[bytes]:
    # The short side is image_size: no form has to resize, which each does in its own way.
    shapes = [(image_size, image_size + 9), (image_size, image_size), (image_size + 20, image_size)]
    return [imaging.encode_jpeg(stripes(n, n, *shape), 92) for n, shape in enumerate(shapes)]


def pixels(encoded: list[bytes], image_size: int) -> np.ndarray:
    return np.stack([imaging.model_input(picture, image_size) for picture in encoded]).astype(np.float32)


def answers_of_each_form(
    model: keras.Model, image_size: int, encoded: list[bytes], folder: Path
) -> dict[str, np.ndarray]:
    """Probabilities [pictures, labels] by form, each from the written file."""
    model.save(folder / classifier.KERAS)
    export.save_saved_model(model, LABELS, image_size, TEMPERATURE, str(folder / classifier.SAVED_MODEL))
    (folder / classifier.TFLITE).write_bytes(export.tflite(model, TEMPERATURE))
    write_labels(folder / "labels.txt", LABELS)
    (folder / classifier.CARD).write_text(json.dumps({"stored_size": image_size, "labels": LABELS}))
    logits = keras.models.load_model(folder / classifier.KERAS)(pixels(encoded, image_size), training=False).numpy()
    signature = tf.saved_model.load(str(folder / classifier.SAVED_MODEL)).signatures["serving_default"]
    return {
        "keras": softmax(logits / TEMPERATURE),
        "tflite": classifier.load(str(folder)).predict(encoded),
        "savedmodel": signature(image_bytes=tf.constant(encoded))["probabilities"].numpy(),
    }


def test_features_come_with_the_answer(tmp_path):
    image_size = models.smallest_image_size("simple_cnn", pre_trained=False)
    model, encoded = with_lively_answers("simple_cnn", image_size), pictures(image_size)
    answers = answers_of_each_form(model, image_size, encoded, tmp_path)
    expected = model.get_layer("base")(pixels(encoded, image_size), training=False).numpy()
    for engine in ("litert", "savedmodel"):
        rows, features = classifier.load(str(tmp_path), engine).look(encoded)
        assert rows == pytest.approx(answers["keras"], abs=TOLERANCE), engine
        assert features == pytest.approx(expected, rel=1e-3, abs=1e-3), engine


@pytest.mark.parametrize("name", [pytest.param(name, marks=_marks(name)) for name in ZOO])
def test_forms_agree(name, tmp_path):
    image_size = models.smallest_image_size(name, pre_trained=False)
    model, encoded = with_lively_answers(name, image_size), pictures(image_size)
    answers = answers_of_each_form(model, image_size, encoded, tmp_path)
    assert answers["keras"].std(axis=0).max() > 0.01, "the answers do not depend on the picture: nothing is compared"
    for form, rows in answers.items():
        assert np.abs(rows - answers["keras"]).max() < TOLERANCES.get(name, TOLERANCE), form
    keras.backend.clear_session()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["simple_cnn", "mobilenet_v2"])
def test_int8_answers_as_float_does(name, tmp_path):
    image_size = models.smallest_image_size(name, pre_trained=False)
    model = with_lively_answers(name, image_size)
    encoded = [imaging.encode_jpeg(stripes(number % 4, number, image_size, image_size), 92) for number in range(40)]
    inputs = pixels(encoded, image_size)
    expected = softmax(model(inputs, training=False).numpy() / TEMPERATURE)
    content = export.tflite(model, TEMPERATURE, (picture[None] for picture in inputs))
    assert len(content) < 0.5 * sum(weight.numpy().nbytes for weight in model.weights) + 100_000
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (source,), (target, _) = interpreter.get_input_details(), interpreter.get_output_details()
    rows = []
    for picture in inputs.astype(np.uint8):
        interpreter.set_tensor(source["index"], picture[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(target["index"])[0].copy())
    # What random weights make of pictures differs little (of a deeper network too little), next to the rounding; a
    # wrong scale would leave no relation at all.
    deviations = [values - values.mean(axis=0) for values in (np.stack(rows), expected)]
    assert np.corrcoef(deviations[0].ravel(), deviations[1].ravel())[0, 1] > 0.5
    keras.backend.clear_session()


@needs_louvre
@pytest.mark.slow
def test_forms_agree_on_100_paintings_with_real_weights(tmp_path):
    path, size = str(next((DATA / "weights").glob("mobilenet_v1*.h5"))), 256
    network = models.build("mobilenet", imaging.input_size(size), len(LABELS), {"alpha": 0.25}, pre_trained=True)
    weights.load(network.base, path, "mobilenet")
    files = sorted((DATA / "louvre" / "images").glob("*.jpg"))[:100]
    # As fetch stores them.
    encoded = [
        imaging.encode_jpeg(imaging.resize_short_side(imaging.decode(file.read_bytes()), size), 90) for file in files
    ]
    answers = answers_of_each_form(network.model, size, encoded, tmp_path)
    assert answers["keras"].std(axis=0).max() > 0.01
    for form, rows in answers.items():
        assert np.abs(rows - answers["keras"]).max() < 2e-3, form
        assert (rows.argmax(axis=1) == answers["keras"].argmax(axis=1)).mean() >= 0.99, form
