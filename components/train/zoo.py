"""The zoo: an entry per model, and every other network of keras.applications as `keras:NAME`.

A model takes raw pixels (0..255); its own preprocessing is inside it. A new model is one entry in ZOO.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.shared.parameters import choice, refuse
from components.train.cards import Card

IMAGENET, NONE = "imagenet", "none"  # values of the parameter `weights` that are no URI
PREFIX = "keras:"

# Licences of the ImageNet weights, as keras.applications names them.
_APACHE, _MIT, _BY = "Apache-2.0", "MIT", "CC-BY-4.0"
# What the networks expect: -1..1; BGR less the mean; ImageNet's mean and deviation; or pixels, prepared inside.
_TF: dict[str, Any] = {"scale": 1 / 127.5, "mean": (1.0, 1.0, 1.0)}
_CAFFE: dict[str, Any] = {"scale": 1.0, "mean": (103.939, 116.779, 123.68), "channels": "BGR"}
_TORCH: dict[str, Any] = {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_INSIDE: dict[str, Any] = {"scale": 1.0}


@dataclass(frozen=True)
class Architecture:
    """How to build a model without its classifier.

    Attributes:
        builder: name in components.train.networks or in keras.applications.
        card: how it is fed and read; `stages` are the last layer of each resolution or width.
        weights: where pre-trained weights come from: "imagenet" (keras.applications) or "none" (from scratch only).
        options: further arguments of the builder.
        parameters: of the network without its classifier, in millions.
    """

    builder: str
    card: Card
    weights: str = IMAGENET
    options: Mapping[str, Any] = field(default_factory=dict)
    parameters: float = 0.0


def _network(
    builder: str,
    size: int,
    pixels: Mapping[str, Any],
    licence: str,
    parameters: float,
    stages: Sequence[str] = (),
    minimum: int = 32,
    **options: float,
) -> Architecture:
    card = Card(size, licence=licence, stages=tuple(stages), minimum_size=minimum, **pixels)
    return Architecture(builder, card, options=options, parameters=parameters)


def _added(*blocks: int) -> tuple[str, ...]:
    return tuple(f"expanded_conv_{block}_add" for block in blocks)


def _convnext(name: str, *last: int) -> tuple[str, ...]:
    return tuple(f"convnext_{name}_stage_{stage}_block_{block}_identity" for stage, block in enumerate(last))


_VGG = tuple(f"block{block}_conv2" for block in (1, 2))
_RESNET = ("conv1_relu", "conv2_block3_out", "conv3_block4_out")
_MOBILENET = tuple(f"conv_pw_{block}_relu" for block in (1, 3, 5, 11, 13))
_EFFICIENTNET_B0 = (
    "block1a_project_activation", "block2b_add", "block3b_add", "block4c_add", "block5e_add", "block6h_add",
)  # fmt: skip
_MOBILENET_V2 = (*(f"block_{block}_add" for block in (2, 5, 9, 12, 15)), "block_16_project_BN")
_EFFICIENTNET_S = ("block1b_add", "block2d_add", "block3d_add", "block4f_add", "block5i_add", "block6o_add")

ZOO: dict[str, Architecture] = {
    "simple_cnn": Architecture("simple_cnn", Card(112, **_TF, minimum_size=16), NONE, parameters=0.3),
    "alexnet": Architecture("alexnet", Card(227, **_TF), NONE, parameters=57.0),
    "vgg16": _network("VGG16", 224, _CAFFE, _BY, 14.7, (*_VGG, "block3_conv3", "block4_conv3", "block5_conv3")),
    "vgg19": _network("VGG19", 224, _CAFFE, _BY, 20.0, (*_VGG, "block3_conv4", "block4_conv4", "block5_conv4")),
    "inception_v3": _network("InceptionV3", 299, _TF, _APACHE, 21.8, ("mixed2", "mixed7", "mixed10"), 75),
    "inception_resnet_v2": _network(
        "InceptionResNetV2", 299, _TF, _APACHE, 54.3, ("mixed_5b", "mixed_6a", "mixed_7a", "conv_7b_ac"), 75
    ),
    "resnet50": _network("ResNet50", 224, _CAFFE, _MIT, 23.6, (*_RESNET, "conv4_block6_out", "conv5_block3_out")),
    "resnet101": _network("ResNet101", 224, _CAFFE, _MIT, 42.7, (*_RESNET, "conv4_block23_out", "conv5_block3_out")),
    "mobilenet": _network("MobileNet", 224, _TF, _APACHE, 3.2, _MOBILENET),
    "mobilenet_075": _network("MobileNet", 224, _TF, _APACHE, 1.8, _MOBILENET, alpha=0.75),
    "mobilenet_050": _network("MobileNet", 224, _TF, _APACHE, 0.8, _MOBILENET, alpha=0.5),
    "mobilenet_025": _network("MobileNet", 224, _TF, _APACHE, 0.2, _MOBILENET, alpha=0.25),
    "mobilenet_v2": _network("MobileNetV2", 224, _TF, _APACHE, 2.3, _MOBILENET_V2),
    "mobilenet_v3_small": _network(
        "MobileNetV3Small", 224, _INSIDE, _APACHE, 0.9, ("expanded_conv_project_bn", *_added(2, 5, 7, 10))
    ),
    "mobilenet_v3_large": _network(
        "MobileNetV3Large", 224, _INSIDE, _APACHE, 3.0, ("expanded_conv_add", *_added(2, 5, 9, 11, 14))
    ),
    "efficientnet_v2_b0": _network("EfficientNetV2B0", 224, _INSIDE, _APACHE, 5.9, _EFFICIENTNET_B0),
    "efficientnet_v2_s": _network("EfficientNetV2S", 384, _INSIDE, _APACHE, 20.3, _EFFICIENTNET_S),
    "convnext_tiny": _network("ConvNeXtTiny", 224, _INSIDE, _MIT, 27.8, _convnext("tiny", 2, 2, 8, 2)),
}

# What else keras.applications builds, by its name there. Of these most have no stages: their last layer is read.
OTHERS: dict[str, Architecture] = {
    each.builder: each
    for each in (
        _network("Xception", 299, _TF, _MIT, 20.9, minimum=71),
        _network("ResNet152", 224, _CAFFE, _MIT, 58.4),
        _network("ResNet50V2", 224, _TF, _MIT, 23.6),
        _network("ResNet101V2", 224, _TF, _MIT, 42.6),
        _network("ResNet152V2", 224, _TF, _MIT, 58.3),
        _network("DenseNet121", 224, _TORCH, "BSD-3-Clause", 7.0),
        _network("DenseNet169", 224, _TORCH, "BSD-3-Clause", 12.6),
        _network("DenseNet201", 224, _TORCH, "BSD-3-Clause", 18.3),
        _network("NASNetMobile", 224, _TF, _APACHE, 4.3),
        _network("NASNetLarge", 331, _TF, _APACHE, 84.9),
        _network("EfficientNetB0", 224, _INSIDE, _APACHE, 4.0),
        _network("EfficientNetB1", 240, _INSIDE, _APACHE, 6.6),
        _network("EfficientNetB2", 260, _INSIDE, _APACHE, 7.8),
        _network("EfficientNetB3", 300, _INSIDE, _APACHE, 10.8),
        _network("EfficientNetB4", 380, _INSIDE, _APACHE, 17.7),
        _network("EfficientNetB5", 456, _INSIDE, _APACHE, 28.5),
        _network("EfficientNetB6", 528, _INSIDE, _APACHE, 41.0),
        _network("EfficientNetB7", 600, _INSIDE, _APACHE, 64.1),
        _network("EfficientNetV2B1", 240, _INSIDE, _APACHE, 6.9),
        _network("EfficientNetV2B2", 260, _INSIDE, _APACHE, 8.8),
        _network("EfficientNetV2B3", 300, _INSIDE, _APACHE, 12.9),
        _network("EfficientNetV2M", 480, _INSIDE, _APACHE, 53.2),
        _network("EfficientNetV2L", 480, _INSIDE, _APACHE, 117.7),
        _network("ConvNeXtSmall", 224, _INSIDE, _MIT, 49.5, _convnext("small", 2, 2, 26, 2)),
        _network("ConvNeXtBase", 224, _INSIDE, _MIT, 87.6, _convnext("base", 2, 2, 26, 2)),
        _network("ConvNeXtLarge", 224, _INSIDE, _MIT, 196.2, _convnext("large", 2, 2, 26, 2)),
        _network("ConvNeXtXLarge", 224, _INSIDE, _MIT, 348.1, _convnext("xlarge", 2, 2, 26, 2)),
    )
}


@functools.cache
def applications() -> dict[str, Architecture]:
    """Every network of keras.applications, by its name there; of a zoo's entry it is that entry."""
    own = {each.builder: each for each in ZOO.values() if each.weights == IMAGENET and not each.options}
    return dict(sorted({**own, **OTHERS}.items()))


def is_entry(name: str) -> bool:
    """Whether the model `name` is built here and its weights come by themselves: of the zoo, or `keras:NAME`."""
    return name in ZOO or name.startswith(PREFIX)


def entry(name: str) -> Architecture:
    """The entry of the zoo, or of `keras:NAME`. Raises ParameterError that lists the known ones."""
    if name.startswith(PREFIX):
        known = applications()
        choice("model", name, [PREFIX + each for each in known])
        return known[name.removeprefix(PREFIX)]
    choice("model", name, (*ZOO, "keras:NAME", "hub:URI", "saved:URI"))
    return ZOO[name]


def check_weights(name: str, weights: str) -> None:
    """Raises ParameterError if the known model `name` has no ImageNet weights and `weights` asks for them."""
    if weights == IMAGENET and entry(name).weights != IMAGENET:
        known = ", ".join(other for other, each in ZOO.items() if each.weights == IMAGENET)
        raise refuse("weights", IMAGENET, f"model={name} has none of ImageNet; use weights=none, or one of {known}")
