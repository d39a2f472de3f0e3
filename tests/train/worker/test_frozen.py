"""`saved:` models: finished ones, frozen, in every form of the classifier."""

import importlib.util
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from components.shared.errors import PipelineError
from components.train import backbones, models
from components.train.cards import FILE_NAME
from components.train.worker import lite
from components.train.worker.foreign import Foreign
from tests.helpers import backbone_folders, jpegs, onnx_networks
from tests.helpers.stripes import LABELS
from tests.train.worker.test_export import answers_of_each_form

needs_onnx = pytest.mark.skipif(
    importlib.util.find_spec("onnx") is None, reason="KerasHub is not installed: make test installs it"
)
SIDE = 28
CARD = {"input_size": SIDE, "scale": 1 / 255, "mean": 0.5, "std": 0.25}
IMAGES = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """From prepared pixels to a vector, with batch statistics and a gelu."""
    keras.utils.set_random_seed(2)
    pixels = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(8, 5, strides=2, padding="same", activation="relu")(pixels)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", activation="relu6")(x)
    x = keras.layers.Conv2D(12, 1, activation="gelu")(x)
    return keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(x))


def expected(network: keras.Model) -> np.ndarray:
    return network((IMAGES / 255.0 - 0.5) / 0.25, training=False).numpy()


def save(network: keras.Model, folder: Path, form: str, **card) -> str:
    """Writes `network` in this form, with its card; returns the name of the model."""
    folder.mkdir(exist_ok=True)
    path = folder / f"network{form}" if form else folder
    if form == ".keras":
        network.save(path)
    elif form == ".tflite":
        content = tf.lite.TFLiteConverter.from_keras_model(network).convert()
        path.write_bytes(content)
    else:
        network.export(path, verbose=False)
    (folder / FILE_NAME).write_text(json.dumps({**CARD, **card}))
    return f"saved:{path}"


def base(name: str, tmp_path) -> keras.Model:
    foreign = Foreign.open(backbones.describe(name), str(tmp_path / "copies"))
    built = models.build(name, SIDE, 3, None, True, None, foreign)
    foreign.load(models.pre_trained_part(built.base))
    return built.base


@pytest.mark.parametrize("form", [".keras", "", ".tflite"])
def test_answers_are_those_of_the_file_in_tensorflow_and_litert(network, form, tmp_path):
    found = base(save(network, tmp_path / "m", form), tmp_path)
    assert not found.trainable_variables
    assert np.abs(found(IMAGES.astype(np.float32), training=False).numpy() - expected(network)).max() < 1e-5
    assert np.abs(lite.Runner(lite.convert(found), 1)(IMAGES) - expected(network)).max() < 1e-4


def test_every_exported_form_has_it_and_needs_the_file_no_more(network, tmp_path):
    name = save(network, tmp_path / "m", "")
    foreign = Foreign.open(backbones.describe(name), str(tmp_path / "copies"))
    model = models.build(name, 32, len(LABELS), None, True, models.Reading(), foreign).model
    model.layers[-1].layers[-1].kernel.assign(np.random.default_rng(1).normal(0, 3, (12, len(LABELS))))
    (tmp_path / "m").rename(tmp_path / "away")
    encoded = [backbone_folders.noise(40, 44), jpegs.flat(40, 40)]
    answers = answers_of_each_form(model, 40, encoded, tmp_path)
    assert answers["keras"].std(axis=0).max() > 0.001
    assert all(np.abs(rows - answers["keras"]).max() < 1e-4 for rows in answers.values())


@needs_onnx
def test_an_onnx_network_answers_as_onnx_says_for_any_number_of_images(tmp_path):
    from onnx.reference import ReferenceEvaluator

    path = onnx_networks.write(tmp_path / "network.onnx")
    (tmp_path / "network.onnx.card.json").write_text(json.dumps({"scale": 1 / 255, "mean": 0.5, "std": 0.25}))
    prepared = ((IMAGES / 255.0 - 0.5) / 0.25).astype(np.float32).transpose(0, 3, 1, 2)
    wanted = ReferenceEvaluator(path).run(None, {"images": prepared})[0]
    found = base(f"saved:{path}", tmp_path)
    assert wanted.std() > 0.01 and found.output_shape == (None, 6)
    for count in (1, 3):
        answers = found(IMAGES[:count].astype(np.float32), training=False).numpy()
        assert np.abs(answers - wanted[:count]).max() < 1e-5
    assert np.abs(lite.Runner(lite.convert(found), 1)(IMAGES) - wanted).max() < 1e-4


@needs_onnx
def test_an_onnx_network_for_one_image_at_a_time(tmp_path):
    path = onnx_networks.write(tmp_path / "network.onnx", batch=1)
    (tmp_path / "network.onnx.card.json").write_text(json.dumps({"scale": 1 / 255, "mean": 0.5, "std": 0.25}))
    found = base(f"saved:{path}", tmp_path)
    together = found(IMAGES.astype(np.float32), training=False).numpy()
    alone = [found(image[None].astype(np.float32), training=False).numpy()[0] for image in IMAGES]
    assert np.abs(together - alone).max() < 1e-6


@needs_onnx
@pytest.mark.parametrize(
    "options, expected",
    [
        ({"outputs": ("vector", "pooled")}, r"it has the outputs vector, pooled; write the vector's as output into "),
        ({"operation": "Mish"}, "the operation Mish of its graph is not known here: export the network as"),
        ({"shape": (3, 28)}, "expected are images, batch x 3 x height x width"),
    ],
)
def test_one_line_for_an_onnx_file_that_cannot_be_used(options, expected, tmp_path):
    path = onnx_networks.write(tmp_path / "network.onnx", **options)
    (tmp_path / "network.onnx.card.json").write_text(json.dumps({"scale": 1 / 255, "mean": 0.5, "std": 0.25}))
    with pytest.raises(PipelineError, match=expected) as error:
        base(f"saved:{path}", tmp_path)
    assert "\n" not in str(error.value)


def test_a_size_that_it_does_not_take(network, tmp_path):
    with pytest.raises(PipelineError, match="does not take NHWC images of 32 pixels .*correct input_size or layout"):
        base(save(network, tmp_path / "m", "", input_size=32), tmp_path)


def test_code_inside_a_keras_file_is_not_run(tmp_path):
    pixels = keras.Input((SIDE, SIDE, 3))
    model = keras.Model(pixels, keras.layers.Lambda(lambda x: x[:, 0, 0])(pixels))
    with pytest.raises(PipelineError, match="Keras cannot load it .*code inside is never run: save it without Lambda"):
        base(save(model, tmp_path / "m", ".keras"), tmp_path)


def test_one_of_several_outputs(network, tmp_path):
    two = keras.Model(network.input, {"vector": network.output, "half": network.output[:, :6]})
    name = save(two, tmp_path / "m", "")
    with pytest.raises(PipelineError, match="it has the outputs (vector, half|half, vector); write the vector's as"):
        base(name, tmp_path)
    assert base(save(two, tmp_path / "n", "", output="vector"), tmp_path).output_shape == (None, 12)
