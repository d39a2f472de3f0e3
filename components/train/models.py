"""The zoo: an entry per model. A model takes raw pixels (0..255); its own preprocessing is inside it.

Everything but the two hand-written networks comes from keras.applications. A new model is one entry in ZOO.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from components.shared.errors import PipelineError
from components.shared.geometry import input_size
from components.shared.parameters import choice, refuse

if TYPE_CHECKING:
    import keras

_LOWEST_RATE = 0.1  # of the lowest layer that is fine-tuned, beside the topmost one's 1
_LEAST_VARIANCE = 1e-6  # of a channel over an image
IMAGENET, NONE = "imagenet", "none"  # values of the parameter `weights` that are no URI


@dataclass(frozen=True)
class Architecture:
    """How to build a model without its classifier.

    Attributes:
        builder: name in components.train.networks or in keras.applications.
        native_size: side in pixels of the images it was designed for.
        preprocessing: what the network expects: "tf" (-1..1), "caffe" (BGR less the mean), or "inside" if its first
            layers do it.
        weights: where pre-trained weights come from: "imagenet" (keras.applications) or "none" (from scratch only).
        options: further arguments of the builder.
        minimum_size: smallest side in pixels that the network can take.
        stages: layers from which a frozen network is read beside its last one: the last of each resolution or width.
            Style lives there as much as in the last layer.
    """

    builder: str
    native_size: int
    preprocessing: str
    weights: str = IMAGENET
    options: Mapping[str, Any] = field(default_factory=dict)
    minimum_size: int = 32
    stages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """What a head reads of a frozen network: blocks of numbers, each of Euclidean length 1.

    Attributes:
        stages: beside the mean of the last layer, mean and standard deviation over the image of each stage.
        flip: the mean over the image and its mirror image, which costs a second pass.
    """

    stages: bool = False
    flip: bool = False


def _added(*blocks: int) -> tuple[str, ...]:
    return tuple(f"expanded_conv_{block}_add" for block in blocks)


_VGG = tuple(f"block{block}_conv2" for block in (1, 2))
_RESNET = ("conv1_relu", "conv2_block3_out", "conv3_block4_out")
_MOBILENET = tuple(f"conv_pw_{block}_relu" for block in (1, 3, 5, 11, 13))
_EFFICIENTNET_B0 = (
    "block1a_project_activation", "block2b_add", "block3b_add", "block4c_add", "block5e_add", "block6h_add",
)  # fmt: skip
_MOBILENET_V2 = (*(f"block_{block}_add" for block in (2, 5, 9, 12, 15)), "block_16_project_BN")
_CONVNEXT_TINY = tuple(
    f"convnext_tiny_stage_{stage}_block_{block}_identity" for stage, block in enumerate((2, 2, 8, 2))
)
_EFFICIENTNET_S = ("block1b_add", "block2d_add", "block3d_add", "block4f_add", "block5i_add", "block6o_add")

ZOO: dict[str, Architecture] = {
    "simple_cnn": Architecture("simple_cnn", 112, "tf", weights="none", minimum_size=16),
    "alexnet": Architecture("alexnet", 227, "tf", weights="none"),
    "vgg16": Architecture("VGG16", 224, "caffe", stages=(*_VGG, "block3_conv3", "block4_conv3", "block5_conv3")),
    "vgg19": Architecture("VGG19", 224, "caffe", stages=(*_VGG, "block3_conv4", "block4_conv4", "block5_conv4")),
    "inception_v3": Architecture("InceptionV3", 299, "tf", minimum_size=75, stages=("mixed2", "mixed7", "mixed10")),
    "inception_resnet_v2": Architecture(
        "InceptionResNetV2", 299, "tf", minimum_size=75, stages=("mixed_5b", "mixed_6a", "mixed_7a", "conv_7b_ac")
    ),
    "resnet50": Architecture("ResNet50", 224, "caffe", stages=(*_RESNET, "conv4_block6_out", "conv5_block3_out")),
    "resnet101": Architecture("ResNet101", 224, "caffe", stages=(*_RESNET, "conv4_block23_out", "conv5_block3_out")),
    "mobilenet": Architecture("MobileNet", 224, "tf", stages=_MOBILENET),
    "mobilenet_075": Architecture("MobileNet", 224, "tf", options={"alpha": 0.75}, stages=_MOBILENET),
    "mobilenet_050": Architecture("MobileNet", 224, "tf", options={"alpha": 0.5}, stages=_MOBILENET),
    "mobilenet_025": Architecture("MobileNet", 224, "tf", options={"alpha": 0.25}, stages=_MOBILENET),
    "mobilenet_v2": Architecture("MobileNetV2", 224, "tf", stages=_MOBILENET_V2),
    "mobilenet_v3_small": Architecture(
        "MobileNetV3Small", 224, "inside", stages=("expanded_conv_project_bn", *_added(2, 5, 7, 10))
    ),
    "mobilenet_v3_large": Architecture(
        "MobileNetV3Large", 224, "inside", stages=("expanded_conv_add", *_added(2, 5, 9, 11, 14))
    ),
    "efficientnet_v2_b0": Architecture("EfficientNetV2B0", 224, "inside", stages=_EFFICIENTNET_B0),
    "efficientnet_v2_s": Architecture("EfficientNetV2S", 384, "inside", stages=_EFFICIENTNET_S),
    "convnext_tiny": Architecture("ConvNeXtTiny", 224, "inside", stages=_CONVNEXT_TINY),
}


@dataclass(frozen=True)
class Network:
    """A classifier in its parts: `model` is `head` after `base`.

    base: pixels [batch, size, size, 3] (0..255) to features [batch, width]; head: features to logits [batch, classes].
    """

    base: "keras.Model"
    head: "keras.Model"
    model: "keras.Model"


def check_name(name: str) -> None:
    """Raises ParameterError that lists the known models unless `name` is one of them."""
    choice("model", name, tuple(ZOO))


def check_weights(name: str, weights: str) -> None:
    """Raises ParameterError if the known model `name` has no ImageNet weights and `weights` asks for them."""
    if weights == IMAGENET and ZOO[name].weights != IMAGENET:
        known = ", ".join(other for other, entry in ZOO.items() if entry.weights == IMAGENET)
        raise refuse("weights", IMAGENET, f"model={name} has none of ImageNet; use weights=none, or one of {known}")


def check_size(name: str, size: int, pre_trained: bool) -> None:
    """Raises PipelineError if images of `size` pixels are too small for the known model `name`."""
    if base_size(name, size, pre_trained) < ZOO[name].minimum_size:
        raise PipelineError(
            f"model={name} needs pictures of at least {ZOO[name].minimum_size} pixels and gets {size}; "
            f"set image_size={smallest_image_size(name, pre_trained)} or more, or choose another model"
        )


def smallest_image_size(name: str, pre_trained: bool) -> int:
    """The smallest parameter image_size (stored images) with which the model `name` can work."""
    return next(
        stored
        for stored in itertools.count(16)
        if base_size(name, input_size(stored), pre_trained) >= ZOO[name].minimum_size
    )


def base_size(name: str, size: int, pre_trained: bool) -> int:
    """Side in pixels at which the network works on images of `size`.

    Pre-trained filters know objects at the size they were trained on: smaller images are enlarged, at most twice
    (on 112 px paintings a frozen MobileNet gains 7 points of accuracy).
    """
    return max(size, min(ZOO[name].native_size, 2 * size)) if pre_trained else size


def build(
    name: str,
    size: int,
    labels: int,
    options: Mapping[str, Any] | None = None,
    pre_trained: bool = False,
    reading: Reading | None = None,
) -> Network:
    """The network `name` for images of `size` pixels and `labels` classes, with random weights.

    `options` override the entry's (such as alpha); `pre_trained` says that weights will be loaded; features are the
    mean of the last layer, or what `reading` says. Raises PipelineError if the images are too small for it.
    """
    import keras

    check_size(name, size, pre_trained)
    architecture, side = ZOO[name], base_size(name, size, pre_trained)
    pixels = keras.Input((size, size, 3), name="pixels")
    enlarged = pixels if side == size else keras.layers.Resizing(side, side, name="enlarge")(pixels)
    prepared = _preprocess(enlarged, architecture.preprocessing)
    options = dict(architecture.options, **(options or {}))
    values = (
        _body(architecture, side, options)(prepared)
        if reading is None
        else _read(architecture, side, options, prepared, reading)
    )
    base = keras.Model(pixels, values, name="base")
    features = keras.Input(base.output_shape[1:], name="features")
    head = keras.Model(features, keras.layers.Dense(labels, name="logits", dtype="float32")(features), name="head")
    return Network(base, head, keras.Model(pixels, head(base(pixels)), name=name))


def with_features(model: "keras.Model") -> "keras.Model":
    """The network's `model` from pixels to [logits, features] instead of logits alone; it shares the weights."""
    import keras

    features = model.get_layer("base")(model.input)
    return keras.Model(model.input, [model.get_layer("head")(features), features], name=model.name)


def last_width(base: "keras.Model") -> int:
    """How many of the base's features, the first ones, are the last layer's mean."""
    return int(pre_trained_part(base).output_shape[0][-1])


def pre_trained_part(base: "keras.Model") -> "keras.Model":
    """The network itself, without the preprocessing before it."""
    import keras

    return next(layer for layer in base.layers if isinstance(layer, keras.Model))


def unfreeze_upper(base: "keras.Model", share: float = 0.4) -> None:
    """Makes the upper part of a pre-trained base trainable: the last `share` of its layers that have weights.

    Batch normalisation stays frozen, or its statistics, taken from small batches, would undo the pre-training
    (https://keras.io/guides/transfer_learning/).
    """
    import keras

    layers = [layer for layer in pre_trained_part(base).layers if layer.weights]
    base.trainable = True
    for number, layer in enumerate(layers):
        upper = number >= len(layers) * (1 - share)
        layer.trainable = upper and not isinstance(layer, keras.layers.BatchNormalization)


def layer_rates(base: "keras.Model") -> dict[int, float]:
    """What to multiply the learning rate with, by the id of each trainable variable of a pre-trained base.

    From 1 at the top it falls by the same factor from layer to layer: the lower a layer, the more general its filters
    (discriminative fine-tuning, arXiv:1801.06146).
    """
    layers = [layer for layer in pre_trained_part(base).layers if layer.trainable_variables]
    last = len(layers) - 1
    return {
        id(variable): _LOWEST_RATE ** ((last - number) / max(last, 1))
        for number, layer in enumerate(layers)
        for variable in layer.trainable_variables
    }


def _body(architecture: Architecture, size: int, options: dict[str, Any], pooling: str | None = "avg") -> "keras.Model":
    import keras

    from components.train import networks

    if hand_written := getattr(networks, architecture.builder, None):
        return hand_written(size, **options)
    builder = getattr(keras.applications, architecture.builder)
    return builder(include_top=False, weights=None, input_shape=(size, size, 3), pooling=pooling, **options)


def _preprocess(pixels, mode: str):
    import keras

    if mode == "tf":
        return keras.layers.Rescaling(1 / 127.5, offset=-1.0)(pixels)
    if mode == "caffe":
        bgr = keras.ops.flip(pixels, axis=-1)
        return keras.layers.Rescaling(1.0, offset=(-103.939, -116.779, -123.68))(bgr)
    return pixels


def _read(architecture: Architecture, size: int, options: dict[str, Any], pixels, reading: Reading):
    """The features [batch, width] that `reading` takes of the network, the last layer's mean first."""
    import keras

    body = _body(architecture, size, options, pooling=None)
    stages = architecture.stages if reading.stages else ()
    tapped = keras.Model(body.input, [body.output, *(body.get_layer(name).output for name in stages)], name=body.name)
    values = _blocks(tapped(pixels))
    if not reading.flip:
        return values
    return keras.layers.Average(name="both_sides")([values, _blocks(tapped(keras.ops.flip(pixels, axis=2)))])


def _blocks(maps):
    """[batch, width]: of the first of `maps` [batch, h, w, channels] the mean, of the others mean and deviation."""
    import keras

    means = [keras.layers.GlobalAveragePooling2D(dtype="float32")(each) for each in maps]
    deviations = [_deviation(each, mean) for each, mean in zip(maps[1:], means[1:], strict=True)]
    blocks = [means[0], *(block for pair in zip(means[1:], deviations, strict=True) for block in pair)]
    lengths = [keras.layers.UnitNormalization(dtype="float32")(block) for block in blocks]
    return keras.layers.Concatenate(dtype="float32")(lengths) if len(lengths) > 1 else lengths[0]


def _deviation(values, mean):
    import keras

    squares = keras.layers.GlobalAveragePooling2D(dtype="float32")(keras.layers.Multiply(dtype="float32")([values] * 2))
    variance = keras.layers.Subtract(dtype="float32")([squares, keras.layers.Multiply(dtype="float32")([mean] * 2)])
    # Rounding can leave a little below 0, and at 0 the root has no finite gradient.
    return keras.ops.sqrt(keras.layers.ReLU(dtype="float32")(variance) + _LEAST_VARIANCE)
