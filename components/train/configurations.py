"""What a folder's own configuration says of a backbone: of KerasHub, Hugging Face transformers, and timm."""

from collections.abc import Mapping
from typing import Any

from components.shared.errors import PipelineError
from components.train.cards import Card, CardError

# Where each tells how images are prepared; timm does so in config.json itself.
PREPROCESSORS = ("preprocessor_config.json", "image_converter.json", "preprocessor.json")
# Vision models of transformers that can be converted: how many tokens stand before the patches' (None: no tokens to
# choose from), and whether their position embeddings are fitted to the size of the images.
_TRANSFORMERS: dict[str, tuple[int | None, bool]] = {
    "vit": (1, False),
    "deit": (2, False),
    "dinov2": (1, True),
    "dinov2_with_registers": (1, True),
    "dinov3_vit": (1, True),
    "swin": (0, False),
    "siglip": (None, False),
    "siglip_vision_model": (None, False),
}
# Of timm's CNNs: how the names of an architecture begin, and KerasHub's converter of it.
_TIMM = {
    "resnet": "resnet",
    "csp": "cspnet",
    "dark": "cspnet",
    "densenet": "densenet",
    "mobilenetv3": "mobilenet",
    "vgg": "vgg",
    "efficientnet": "efficientnet",
    "hgnetv2": "hgnetv2",
}
_CONVERTERS = {"dinov2_with_registers": "dinov2", "dinov3_vit": "dinov3", "swin": "swin_transformer"}
# KerasHub's vision backbones: tokens before the patches' (None: a map or a vector), and whether they take any size.
_KERAS_HUB: dict[str, tuple[int | None, bool]] = {
    "ViTBackbone": (1, False),
    "DeiTBackbone": (2, False),
    "DINOV2Backbone": (1, False),
    "DINOV3Backbone": (1, False),
    "SwinTransformerBackbone": (0, False),
    "SigLIPVisionEncoder": (None, False),
    **dict.fromkeys(
        ("ResNetBackbone", "CSPNetBackbone", "DenseNetBackbone", "MobileNetBackbone", "VGGBackbone",
         "EfficientNetBackbone", "HGNetV2Backbone", "XceptionBackbone"),
        (None, True),
    ),
    "MiTBackbone": (None, False),
}  # fmt: skip


class Unsupported(PipelineError):
    """A folder of a kind or architecture that is not converted; the message says which are."""


def read(config: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> tuple[str, dict[str, Any], int | None, bool]:
    """Form (keras_hub, transformers, timm), what it tells for a card, tokens before the patches', any size or not.

    Raises Unsupported.
    """
    if "registered_name" in config:
        return _keras_hub(config, preprocessor)
    if "model_type" in config:
        return _transformers(config, preprocessor)
    if "architecture" in config:
        return _timm(config)
    raise Unsupported(
        "its config.json has neither registered_name (KerasHub), model_type (transformers) nor architecture (timm)"
    )


def vision(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a transformers configuration that is of the images: of a two-tower model its vision_config."""
    return {"image_size": 224, "patch_size": 16, **config.get("vision_config", config)}


def converter(config: Mapping[str, Any]) -> str:
    """The module of KerasHub that converts a folder with this configuration, by its path in keras_hub.src.utils."""
    if "model_type" in config:
        kind = str(config["model_type"])
        return f"transformers.convert_{_CONVERTERS.get(kind, kind)}"
    name = str(config["architecture"])
    return f"timm.convert_{next(module for start, module in _TIMM.items() if name.startswith(start))}"


def check(card: Card, config: Mapping[str, Any], form: str, where: str) -> None:
    """Raises CardError if the network cannot take images of the card's size, or has no such token to read."""
    own = vision(config) if form == "transformers" else config.get("config", config)
    patch, size = own.get("patch_size", 1), own.get("image_size")
    patch = patch[0] if isinstance(patch, (list, tuple)) else patch
    kind = str(config.get("model_type", config.get("registered_name", config.get("architecture", ""))))
    fitted = form == "transformers" and _TRANSFORMERS[kind][1]
    if form == "transformers" and not fitted and card.input_size != size:
        raise CardError(f"{where}: input_size={card.input_size}, but this {kind} takes {size} pixels and no others")
    shape = own.get("image_shape")
    if form == "keras_hub" and not known(config)[1] and shape and shape[0] and shape[0] != card.input_size:
        raise CardError(f"{where}: input_size={card.input_size}, but this {kind} takes {shape[0]} pixels and no others")
    if isinstance(patch, int) and card.input_size % patch:
        near = round(card.input_size / patch) * patch or patch
        raise CardError(f"{where}: input_size={card.input_size} is no multiple of its patches of {patch}; use {near}")
    if card.layout != "NHWC":
        raise CardError(f"{where}: layout={card.layout}; KerasHub's networks take NHWC, leave the key out")
    tokens = _TRANSFORMERS[kind][0] if form == "transformers" else known(config)[0] if form == "keras_hub" else None
    if card.pooling != "mean" and not tokens:
        raise CardError(f"{where}: pooling={card.pooling}, but {kind} has no cls token; use mean")


def known(config: Mapping[str, Any]) -> tuple[int | None, bool]:
    """Of a KerasHub backbone: tokens before the patches', and whether it takes any size. Raises Unsupported."""
    name = str(config["registered_name"]).rpartition(">")[2]
    if name not in _KERAS_HUB:
        raise Unsupported(f"{name} is no backbone for images that can be used; there are {', '.join(_KERAS_HUB)}")
    return _KERAS_HUB[name]


def _transformers(config: Mapping[str, Any], told: Mapping[str, Any]) -> tuple[str, dict[str, Any], int | None, bool]:
    kind = str(config["model_type"])
    if kind not in _TRANSFORMERS:
        raise Unsupported(
            f"no {kind} of transformers can be converted to a backbone for images; there are {', '.join(_TRANSFORMERS)}"
        )
    own = vision(config)
    tokens, fitted = _TRANSFORMERS[kind]
    registers = int(own.get("num_register_tokens", 0)) if tokens else 0
    found: dict[str, Any] = {"pooling": "cls" if tokens else "mean"}
    size = _side(told) if fitted else None
    found["input_size"] = size or own["image_size"]
    if told:
        found |= _prepared(told)
    return "transformers", found, None if tokens is None else tokens + registers, False


def _side(told: Mapping[str, Any]) -> int | None:
    """The side of the images that a preprocessor makes: after its crop, if it crops."""
    crops = told.get("do_center_crop", "crop_size" in told)
    for key in ("crop_size", "size") if crops else ("size",):
        value = told.get(key)
        if isinstance(value, Mapping):
            value = value.get("height") or value.get("shortest_edge")
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def _prepared(told: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"scale": told.get("rescale_factor", 1 / 255) if told.get("do_rescale", True) else 1.0}
    if not told.get("do_normalize", True):
        return {**found, "mean": [0.0] * 3, "std": [1.0] * 3}
    return {**found, **{key: told[f"image_{key}"] for key in ("mean", "std") if f"image_{key}" in told}}


def _timm(config: Mapping[str, Any]) -> tuple[str, dict[str, Any], int | None, bool]:
    name = str(config["architecture"])
    if not name.startswith(tuple(_TIMM)):
        raise Unsupported(f"KerasHub converts no {name} of timm; there are {', '.join(_TIMM)}")
    told = {**config, **config.get("pretrained_cfg", {})}
    found: dict[str, Any] = {"scale": 1 / 255, "pooling": "mean"}
    found |= {key: told[key] for key in ("mean", "std") if key in told}
    if isinstance(told.get("input_size"), (list, tuple)) and len(told["input_size"]) == 3:
        found["input_size"] = told["input_size"][1]
    if isinstance(told.get("license"), str):
        found["licence"] = told["license"]
    return "timm", found, None, True


def _keras_hub(config: Mapping[str, Any], told: Mapping[str, Any]) -> tuple[str, dict[str, Any], int | None, bool]:
    tokens, flexible = known(config)
    own = config.get("config", {})
    if tokens == 1 and own.get("use_class_token") is False:
        tokens = 0
    found: dict[str, Any] = {"pooling": "cls" if tokens else "mean"}
    shape = own.get("image_shape") or (None,)
    converter = told.get("config", {})
    converter = converter.get("image_converter", {}).get("config", converter)
    size = shape[0] or (converter.get("image_size") or (None,))[0]
    if size:
        found["input_size"] = size
    if "scale" in converter:
        scale, offset = (_three(converter.get(key, 0.0)) for key in ("scale", "offset"))
        if all(scale):
            found |= {"scale": 1.0, "std": [1 / s for s in scale], "mean": [-o / s for o, s in zip(offset, scale)]}
    tokens = tokens + int(own.get("num_register_tokens", 0)) if tokens else tokens
    return "keras_hub", found, tokens, flexible


def _three(value: Any) -> list[float]:
    return [float(each) for each in value] if isinstance(value, (list, tuple)) else [float(value or 0)] * 3
