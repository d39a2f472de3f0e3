"""KerasHub's converters of transformers' and timm's folders, and what they lack: SigLIP's image tower.

KerasHub offers them by `from_preset` only. That imports what its language models need (sentencepiece), finds no weights
in a folder of a bare ViT or DeiT, whose names have no prefix, and converts no SigLIP; so the two steps of a converter
are taken one by one here.
"""

import importlib
from collections.abc import Mapping
from typing import Any

import keras
import keras_hub
import numpy as np
from keras_hub.src.utils.preset_utils import load_json
from keras_hub.src.utils.transformers.safetensor_utils import SafetensorLoader

from components.train import configurations
from components.train.configurations import vision

_SIGLIP = ("siglip", "siglip_vision_model")
_OWN_PREFIXES = ("vit.", "deit.")


class _Tensors(SafetensorLoader):
    """The folder's weights by name; a bare ViT's are without the prefix that KerasHub asks for."""

    def get_prefixed_key(self, hf_weight_key: str, dict_like: Any) -> str:
        if hf_weight_key.startswith(_OWN_PREFIXES):
            bare = hf_weight_key.partition(".")[2]
            if bare in dict_like.keys():  # noqa: SIM118  a safetensors file is no mapping
                return bare
        return super().get_prefixed_key(hf_weight_key, dict_like)

    def get_tensor(self, hf_weight_key: str) -> np.ndarray:
        return np.asarray(super().get_tensor(hf_weight_key), np.float32)


def backbone(path: str, form: str, side: int, weights: bool) -> keras.Model:
    """The network in the local folder `path`, of the form transformers or timm, for images of `side` pixels.

    With `weights` it has the folder's. Raises what the converters raise: KeyError, ValueError, SafetensorError ...
    """
    config = load_json(path)
    if config.get("model_type") in _SIGLIP:
        network = _siglip(vision(config), side)
        convert = _convert_siglip
    else:
        converter = importlib.import_module(f"keras_hub.src.utils.{configurations.converter(config)}")
        options = {**converter.convert_backbone_config(config), "image_shape": (side, side, 3)}
        network = converter.backbone_cls(**options)
        convert = converter.convert_weights
    if weights:
        with _Tensors(path, prefix="" if form == "timm" else None) as tensors:
            convert(network, tensors, config)
    return network


def _siglip(config: Mapping[str, Any], side: int) -> keras.Model:
    activation = config.get("hidden_act", "gelu_pytorch_tanh")
    return keras_hub.models.SigLIPVisionEncoder(
        patch_size=config["patch_size"],
        hidden_dim=config.get("hidden_size", 768),
        num_layers=config.get("num_hidden_layers", 12),
        num_heads=config.get("num_attention_heads", 12),
        intermediate_dim=config.get("intermediate_size", 3072),
        intermediate_activation="gelu_approximate" if activation == "gelu_pytorch_tanh" else activation,
        layer_norm_epsilon=config.get("layer_norm_eps", 1e-6),
        image_shape=(side, side, 3),
    )


def _convert_siglip(network: Any, tensors: _Tensors, _: Mapping[str, Any]) -> None:
    """Names as in transformers' SiglipVisionModel; of a two-tower folder the text tower is left alone."""

    def get(name: str) -> np.ndarray:
        return tensors.get_tensor(f"vision_model.{name}")

    def norm(layer: Any, name: str) -> None:
        layer.gamma.assign(get(f"{name}.weight"))
        layer.beta.assign(get(f"{name}.bias"))

    def dense(layer: Any, name: str) -> None:
        layer.kernel.assign(get(f"{name}.weight").T)
        layer.bias.assign(get(f"{name}.bias"))

    def projection(layer: Any, kernel: np.ndarray, bias: np.ndarray) -> None:
        layer.kernel.assign(kernel.T.reshape(layer.kernel.shape))
        layer.bias.assign(bias.reshape(layer.bias.shape))

    embedding = network.embedding
    embedding.patch_embedding.kernel.assign(get("embeddings.patch_embedding.weight").transpose(2, 3, 1, 0))
    embedding.patch_embedding.bias.assign(get("embeddings.patch_embedding.bias"))
    embedding.position_embedding.embeddings.assign(get("embeddings.position_embedding.weight"))
    for number, block in enumerate(network.encoder_layers):
        name, attention = f"encoder.layers.{number}", block.self_attn
        parts = {"q": attention.query_dense, "k": attention.key_dense, "v": attention.value_dense}
        for part, layer in {**parts, "out": attention.output_dense}.items():
            projection(layer, get(f"{name}.self_attn.{part}_proj.weight"), get(f"{name}.self_attn.{part}_proj.bias"))
        norm(block.layer_norm1, f"{name}.layer_norm1")
        norm(block.layer_norm2, f"{name}.layer_norm2")
        dense(block.mlp.fc1, f"{name}.mlp.fc1")
        dense(block.mlp.fc2, f"{name}.mlp.fc2")
    norm(network.post_layer_norm, "post_layernorm")
    head = network.head
    head.probe.assign(get("head.probe"))
    kernels, biases = (np.split(get(f"head.attention.in_proj_{kind}"), 3) for kind in ("weight", "bias"))
    own = (head.attention.query_dense, head.attention.key_dense, head.attention.value_dense)
    for layer, kernel, bias in zip(own, kernels, biases, strict=True):
        projection(layer, kernel, bias)
    projection(head.attention.output_dense, get("head.attention.out_proj.weight"), get("head.attention.out_proj.bias"))
    norm(head.layer_norm, "head.layernorm")
    dense(head.mlp.fc1, "head.mlp.fc1")
    dense(head.mlp.fc2, "head.mlp.fc2")
