import keras
import numpy as np
import pytest

from components.shared.errors import PipelineError
from components.train import models
from components.train.worker.step import TrainingStep
from components.train.zoo import ZOO, applications

# Parameters of the published network without its top (Keras documentation, weights of include_top=False).
PARAMETERS = {
    "vgg16": 14_714_688,
    "vgg19": 20_024_384,
    "inception_v3": 21_802_784,
    "inception_resnet_v2": 54_336_736,
    "resnet50": 23_587_712,
    "resnet101": 42_658_176,
    "mobilenet": 3_228_864,
    "mobilenet_025": 218_544,
    "mobilenet_v2": 2_257_984,
    "efficientnet_v2_b0": 5_919_312,
    "efficientnet_v2_s": 20_331_360,
    "convnext_tiny": 27_820_128,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_every_model_takes_raw_pixels_and_gives_logits(name):
    network = models.build(name, 80, 5)
    answers = network.model(np.full([2, 80, 80, 3], 255.0, np.float32), training=False)
    assert answers.shape == (2, 5) and answers.dtype == "float32" and np.isfinite(answers).all()
    assert network.base.count_params() == PARAMETERS.get(name, network.base.count_params())
    keras.backend.clear_session()


@pytest.mark.parametrize("name, module", [("resnet50", "resnet"), ("mobilenet", "mobilenet"), ("vgg16", "vgg16")])
def test_preprocessing_is_that_of_keras_applications(name, module):
    pixels = np.random.default_rng(1).integers(0, 256, [2, 8, 8, 3]).astype(np.float32)
    inputs = keras.Input((8, 8, 3))
    ours = keras.Model(inputs, models._prepare(inputs, ZOO[name].card))
    expected = getattr(keras.applications, module).preprocess_input(pixels.copy())
    assert ours(pixels).numpy() == pytest.approx(expected, abs=1e-3)


def test_every_network_of_keras_applications_has_a_name():
    assert {name for name in dir(keras.applications) if name[0].isupper()} == set(applications())


def test_pictures_that_are_too_small_for_the_model():
    with pytest.raises(PipelineError, match="at least 75 pixels and gets 32; set image_size=92 or more"):
        models.build("inception_v3", 32, 5)


def test_pre_trained_models_see_small_pictures_enlarged():
    entry = ZOO["mobilenet"]
    assert models.base_size(entry, 112, True) == 224
    assert models.base_size(entry, 64, True) == 128
    assert models.base_size(entry, 224, True) == 224
    assert models.base_size(entry, 112, False) == 112
    network = models.build("mobilenet_025", 32, 5, pre_trained=True)
    assert network.model.input_shape == (None, 32, 32, 3)
    assert network.base.get_layer("enlarge").output.shape == (None, 64, 64, 3)


def test_fine_tuning_moves_the_upper_part_and_no_normalisation(make_settings):
    import tensorflow as tf

    network = models.build("mobilenet_025", 32, 3)
    models.unfreeze_upper(network.base)
    before = [weight.numpy() for weight in network.base.weights]
    step = TrainingStep(tf.distribute.get_strategy(), network.model, make_settings(), 0.1, 10)
    pixels = np.random.default_rng(1).integers(0, 256, [4, 32, 32, 3]).astype(np.uint8)
    for _ in range(2):
        step.run((tf.constant(pixels), tf.one_hot([0, 1, 2, 0], 3), tf.fill([4], 0.25)), False)
    moved = [not np.array_equal(old, weight.numpy()) for old, weight in zip(before, network.base.weights)]
    names = [weight.path for weight in network.base.weights]
    assert not any(moved[: len(moved) // 3]) and any(moved[-10:])
    assert not any(changed for changed, name in zip(moved, names) if "batch_norm" in name or "_bn" in name)


def test_lower_layers_are_fine_tuned_at_a_lower_rate(make_settings):
    import tensorflow as tf

    from components.train.worker.step import LayerWiseAdamW

    network = models.build("mobilenet_025", 32, 3)
    models.unfreeze_upper(network.base)
    rates = models.layer_rates(network.base)
    trained = network.model.trainable_weights
    factors = [rates.get(id(weight), 1.0) for weight in trained]
    assert factors[0] == pytest.approx(0.1) and factors[-3:] == [1.0, 1.0, 1.0] and factors == sorted(factors)
    before = [weight.numpy() for weight in trained]
    optimizer = LayerWiseAdamW(0.01)
    optimizer.factors = factors
    optimizer.apply([tf.ones_like(weight) for weight in trained], trained)
    # Adam's first step moves every weight by its learning rate, whatever the gradient; the decay is small beside it.
    moved = [(old - weight.numpy()).mean() for old, weight in zip(before, trained, strict=True)]
    assert moved == pytest.approx([0.01 * factor for factor in factors], rel=0.02)
