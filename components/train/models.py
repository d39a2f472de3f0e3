"""The zoo: an entry a model. A model takes raw pixels (0..255); its own preprocessing is inside it.

Everything but the two hand-written networks comes from keras.applications. A new model is one entry in ZOO.
"""

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Mapping

from components.shared.errors import PipelineError
from components.shared.geometry import input_size
from components.shared.parameters import choice, refuse

if TYPE_CHECKING:
    import keras

IMAGENET, NONE = "imagenet", "none"  # values of the parameter `weights` that are no URI


@dataclass(frozen=True)
class Architecture:
    """How to build a model without its classifier.

    Attributes:
        builder: name in components.train.networks or in keras.applications.
        native_size: side in pixels of the pictures it was designed for.
        preprocessing: what the network expects: "tf" (-1..1), "caffe" (BGR less the mean), or "inside" if its first
            layers do it.
        weights: where pre-trained weights come from: "imagenet" (keras.applications) or "none" (from scratch only).
        options: further arguments of the builder.
        minimum_size: smallest side in pixels that the network can take.
    """

    builder: str
    native_size: int
    preprocessing: str
    weights: str = IMAGENET
    options: Mapping[str, Any] = field(default_factory=dict)
    minimum_size: int = 32


ZOO: dict[str, Architecture] = {
    "simple_cnn": Architecture("simple_cnn", 112, "tf", weights="none", minimum_size=16),
    "alexnet": Architecture("alexnet", 227, "tf", weights="none"),
    "vgg16": Architecture("VGG16", 224, "caffe"),
    "vgg19": Architecture("VGG19", 224, "caffe"),
    "inception_v3": Architecture("InceptionV3", 299, "tf", minimum_size=75),
    "inception_resnet_v2": Architecture("InceptionResNetV2", 299, "tf", minimum_size=75),
    "resnet50": Architecture("ResNet50", 224, "caffe"),
    "resnet101": Architecture("ResNet101", 224, "caffe"),
    "mobilenet": Architecture("MobileNet", 224, "tf"),
    "mobilenet_075": Architecture("MobileNet", 224, "tf", options={"alpha": 0.75}),
    "mobilenet_050": Architecture("MobileNet", 224, "tf", options={"alpha": 0.5}),
    "mobilenet_025": Architecture("MobileNet", 224, "tf", options={"alpha": 0.25}),
    "mobilenet_v2": Architecture("MobileNetV2", 224, "tf"),
    "mobilenet_v3_small": Architecture("MobileNetV3Small", 224, "inside"),
    "mobilenet_v3_large": Architecture("MobileNetV3Large", 224, "inside"),
    "efficientnet_v2_b0": Architecture("EfficientNetV2B0", 224, "inside"),
    "efficientnet_v2_s": Architecture("EfficientNetV2S", 384, "inside"),
    "convnext_tiny": Architecture("ConvNeXtTiny", 224, "inside"),
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
    """Raises PipelineError if pictures of `size` pixels are too small for the known model `name`."""
    if base_size(name, size, pre_trained) < ZOO[name].minimum_size:
        raise PipelineError(
            f"model={name} needs pictures of at least {ZOO[name].minimum_size} pixels and gets {size}; "
            f"set image_size={smallest_image_size(name, pre_trained)} or more, or choose another model"
        )


def smallest_image_size(name: str, pre_trained: bool) -> int:
    """The smallest parameter image_size (stored pictures) with which the model `name` can work."""
    return next(
        stored
        for stored in itertools.count(16)
        if base_size(name, input_size(stored), pre_trained) >= ZOO[name].minimum_size
    )


def base_size(name: str, size: int, pre_trained: bool) -> int:
    """Side in pixels at which the network works on pictures of `size`.

    Pre-trained filters know objects at the size they were trained on: smaller pictures are enlarged, at most twice
    (on 112 px paintings a frozen MobileNet gains 7 points of accuracy).
    """
    return max(size, min(ZOO[name].native_size, 2 * size)) if pre_trained else size


def build(
    name: str, size: int, labels: int, options: Mapping[str, Any] | None = None, pre_trained: bool = False
) -> Network:
    """The network `name` for pictures of `size` pixels and `labels` classes, with random weights.

    `options` override the entry's (such as alpha); `pre_trained` says that weights will be loaded. Raises PipelineError
    if the pictures are too small for it.
    """
    import keras

    check_size(name, size, pre_trained)
    architecture, side = ZOO[name], base_size(name, size, pre_trained)
    pixels = keras.Input((size, size, 3), name="pixels")
    enlarged = pixels if side == size else keras.layers.Resizing(side, side, name="enlarge")(pixels)
    body = _body(architecture, side, dict(architecture.options, **(options or {})))
    base = keras.Model(pixels, body(_preprocess(enlarged, architecture.preprocessing)), name="base")
    features = keras.Input(base.output_shape[1:], name="features")
    head = keras.Model(features, keras.layers.Dense(labels, name="logits", dtype="float32")(features), name="head")
    return Network(base, head, keras.Model(pixels, head(base(pixels)), name=name))


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


def _body(architecture: Architecture, size: int, options: dict[str, Any]) -> "keras.Model":
    import keras

    from components.train import networks

    if hand_written := getattr(networks, architecture.builder, None):
        return hand_written(size, **options)
    builder = getattr(keras.applications, architecture.builder)
    return builder(include_top=False, weights=None, input_shape=(size, size, 3), pooling="avg", **options)


def _preprocess(pixels, mode: str):
    import keras

    if mode == "tf":
        return keras.layers.Rescaling(1 / 127.5, offset=-1.0)(pixels)
    if mode == "caffe":
        bgr = keras.ops.flip(pixels, axis=-1)
        return keras.layers.Rescaling(1.0, offset=(-103.939, -116.779, -123.68))(bgr)
    return pixels
