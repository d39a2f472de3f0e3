"""`saved:` models: finished ones, frozen, in every form of the classifier."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from components.artifacts import classifier
from components.shared.errors import PipelineError
from components.train import backbones, models
from components.train.cards import FILE_NAME
from components.train.worker import lite, training
from components.train.worker.foreign import Foreign
from tests.helpers import backbone_folders

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
    else:
        network.export(path, verbose=False)
    (folder / FILE_NAME).write_text(json.dumps({**CARD, **card}))
    return f"saved:{path}"


def base(name: str, tmp_path) -> keras.Model:
    foreign = Foreign.open(backbones.describe(name), str(tmp_path / "copies"))
    built = models.build(name, SIDE, 3, None, True, None, foreign)
    foreign.load(models.pre_trained_part(built.base))
    return built.base


@pytest.mark.parametrize("form", [".keras", ""])
def test_answers_are_those_of_the_file_in_tensorflow_and_litert(network, form, tmp_path):
    found = base(save(network, tmp_path / "m", form), tmp_path)
    assert not found.trainable_variables
    assert np.abs(found(IMAGES.astype(np.float32), training=False).numpy() - expected(network)).max() < 1e-5
    assert np.abs(lite.Runner(lite.convert(found), 1)(IMAGES) - expected(network)).max() < 1e-4


def test_trained_and_exported_into_every_form_which_needs_the_file_no_more(network, dataset, make_settings, tmp_path):
    name = save(network, tmp_path / "m", "")
    settings = make_settings(model=name, head="regression", fine_tune_epochs="auto", view="center")
    output = tmp_path / "classifier"
    training.run(settings, dataset, str(output), str(tmp_path / "checkpoints"))
    (tmp_path / "m").rename(tmp_path / "away")
    loaded = classifier.load(str(output))
    encoded = [backbone_folders.noise(40, 44), backbone_folders.noise(40, 40)]
    answers = loaded.predict(encoded)
    signature = tf.saved_model.load(str(output / "1")).signatures["serving_default"]
    assert np.abs(signature(image_bytes=tf.constant(encoded))["probabilities"].numpy() - answers).max() < 1e-4
    pixels = np.stack([loaded._prepared(image) for image in encoded]).astype(np.float32)
    logits = keras.models.load_model(output / classifier.KERAS)(pixels, training=False) / loaded.card["temperature"]
    assert np.abs(tf.nn.softmax(logits).numpy() - answers).max() < 1e-4


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
