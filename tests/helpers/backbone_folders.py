"""Tiny backbones with random weights, in the layouts that people have them in."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 28
_WIDTH, _HEADS, _LAYERS, _MIDDLE = 16, 2, 2, 32
PREPROCESSOR = {
    "do_resize": True, "size": {"height": SIDE, "width": SIDE}, "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
}  # fmt: skip


def write(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], preprocessor=PREPROCESSOR) -> str:
    """A folder as transformers and timm write it; returns its path."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if preprocessor:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    save_file(dict(tensors), folder / "model.safetensors")
    return str(folder)


class _Random:
    def __init__(self) -> None:
        self.tensors: dict[str, np.ndarray] = {}
        self._generator = np.random.default_rng(3)

    def add(self, name: str, *shape: int, mean: float = 0.0) -> None:
        values = self._generator.normal(mean, 0.3 if len(shape) > 1 else 0.1, shape)
        self.tensors[name] = np.ascontiguousarray(values, np.float32)

    def dense(self, name: str, inputs: int, outputs: int) -> None:
        self.add(f"{name}.weight", outputs, inputs)
        self.add(f"{name}.bias", outputs)

    def norm(self, name: str, width: int = _WIDTH) -> None:
        self.add(f"{name}.weight", width, mean=1.0)
        self.add(f"{name}.bias", width)


def dinov2(folder: Path, registers: int = 0, **changes: Any) -> str:
    """A DINOv2 of two layers for patches of 14 pixels, trained at 56."""
    config = {
        "model_type": "dinov2_with_registers" if registers else "dinov2", "architectures": ["Dinov2Model"],
        "image_size": 56, "patch_size": 14, "num_hidden_layers": _LAYERS, "hidden_size": _WIDTH, "mlp_ratio": 2,
        "num_attention_heads": _HEADS, "layerscale_value": 1.0, "use_swiglu_ffn": False, "hidden_dropout_prob": 0.0,
        "drop_path_rate": 0.0, "num_register_tokens": registers,
    }  # fmt: skip
    made = _Random()
    made.add("embeddings.cls_token", 1, 1, _WIDTH)
    made.add("embeddings.mask_token", 1, _WIDTH)
    if registers:
        made.add("embeddings.register_tokens", 1, registers, _WIDTH)
    made.add("embeddings.position_embeddings", 1, 17, _WIDTH)
    _patches(made, "embeddings.patch_embeddings.projection", 14)
    for layer in range(_LAYERS):
        name = f"encoder.layer.{layer}"
        for norm in ("norm1", "norm2"):
            made.norm(f"{name}.{norm}")
        _attention(made, f"{name}.attention")
        for scale in ("layer_scale1", "layer_scale2"):
            made.add(f"{name}.{scale}.lambda1", _WIDTH, mean=1.0)
        made.dense(f"{name}.mlp.fc1", _WIDTH, _MIDDLE)
        made.dense(f"{name}.mlp.fc2", _MIDDLE, _WIDTH)
    made.norm("layernorm")
    return write(folder, {**config, **changes}, made.tensors)


def vit(folder: Path, prefix: str = "vit.", kind: str = "vit") -> str:
    """A ViT (or DeiT) of two layers for patches of 14 pixels; a bare one has no prefix."""
    config = {
        "model_type": kind, "image_size": SIDE, "patch_size": 14, "num_hidden_layers": _LAYERS, "hidden_size": _WIDTH,
        "intermediate_size": _MIDDLE, "num_attention_heads": _HEADS, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0, "qkv_bias": True, "layer_norm_eps": 1e-6,
    }  # fmt: skip
    made = _Random()
    made.add(f"{prefix}embeddings.cls_token", 1, 1, _WIDTH)
    if kind == "deit":
        made.add(f"{prefix}embeddings.distillation_token", 1, 1, _WIDTH)
    made.add(f"{prefix}embeddings.position_embeddings", 1, 6 if kind == "deit" else 5, _WIDTH)
    _patches(made, f"{prefix}embeddings.patch_embeddings.projection", 14)
    for layer in range(_LAYERS):
        name = f"{prefix}encoder.layer.{layer}"
        for norm in ("layernorm_before", "layernorm_after"):
            made.norm(f"{name}.{norm}")
        _attention(made, f"{name}.attention")
        made.dense(f"{name}.intermediate.dense", _WIDTH, _MIDDLE)
        made.dense(f"{name}.output.dense", _MIDDLE, _WIDTH)
    made.norm(f"{prefix}layernorm")
    return write(folder, config, made.tensors)


def siglip(folder: Path) -> str:
    """The image tower of a SigLIP of two layers, in a folder of both towers."""
    tower = {
        "image_size": SIDE, "patch_size": 14, "num_hidden_layers": _LAYERS, "hidden_size": _WIDTH,
        "intermediate_size": _MIDDLE, "num_attention_heads": _HEADS,
    }  # fmt: skip
    made, top = _Random(), "vision_model"
    _patches(made, f"{top}.embeddings.patch_embedding", 14)
    made.add(f"{top}.embeddings.position_embedding.weight", 4, _WIDTH)
    for layer in range(_LAYERS):
        name = f"{top}.encoder.layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            made.dense(f"{name}.self_attn.{part}", _WIDTH, _WIDTH)
        for norm in ("layer_norm1", "layer_norm2"):
            made.norm(f"{name}.{norm}")
        made.dense(f"{name}.mlp.fc1", _WIDTH, _MIDDLE)
        made.dense(f"{name}.mlp.fc2", _MIDDLE, _WIDTH)
    made.norm(f"{top}.post_layernorm")
    made.add(f"{top}.head.probe", 1, 1, _WIDTH)
    made.add(f"{top}.head.attention.in_proj_weight", 3 * _WIDTH, _WIDTH)
    made.add(f"{top}.head.attention.in_proj_bias", 3 * _WIDTH)
    made.dense(f"{top}.head.attention.out_proj", _WIDTH, _WIDTH)
    made.norm(f"{top}.head.layernorm")
    made.dense(f"{top}.head.mlp.fc1", _WIDTH, _MIDDLE)
    made.dense(f"{top}.head.mlp.fc2", _MIDDLE, _WIDTH)
    made.add("text_model.final_layer_norm.bias", _WIDTH)
    return write(folder, {"model_type": "siglip", "vision_config": tower}, made.tensors)


def swin(folder: Path) -> str:
    """A Swin of two stages with a block each, windows of 7 and patches of 2 pixels."""
    config = {
        "model_type": "swin", "image_size": SIDE, "patch_size": 2, "embed_dim": 8, "depths": [1, 1],
        "num_heads": [2, 2],
        "window_size": 7, "mlp_ratio": 2.0, "qkv_bias": True, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0, "drop_path_rate": 0.0,
    }  # fmt: skip
    made = _Random()
    made.add("embeddings.patch_embeddings.projection.weight", 8, 3, 2, 2)
    made.add("embeddings.patch_embeddings.projection.bias", 8)
    made.norm("embeddings.norm", 8)
    for stage, width in enumerate((8, 16)):
        name = f"encoder.layers.{stage}.blocks.0"
        for norm in ("layernorm_before", "layernorm_after"):
            made.norm(f"{name}.{norm}", width)
        for part in ("query", "key", "value"):
            made.dense(f"{name}.attention.self.{part}", width, width)
        made.add(f"{name}.attention.self.relative_position_bias_table", 169, 2)
        made.dense(f"{name}.attention.output.dense", width, width)
        made.dense(f"{name}.intermediate.dense", width, 2 * width)
        made.dense(f"{name}.output.dense", 2 * width, width)
    made.add("encoder.layers.0.downsample.reduction.weight", 16, 32)
    made.norm("encoder.layers.0.downsample.norm", 32)
    made.norm("layernorm", 16)
    return write(folder, config, made.tensors)


def _patches(made: _Random, name: str, patch: int) -> None:
    made.add(f"{name}.weight", _WIDTH, 3, patch, patch)
    made.add(f"{name}.bias", _WIDTH)


def _attention(made: _Random, name: str) -> None:
    for part in ("query", "key", "value"):
        made.dense(f"{name}.attention.{part}", _WIDTH, _WIDTH)
    made.dense(f"{name}.output.dense", _WIDTH, _WIDTH)


def noise(height: int, width: int) -> bytes:
    """A PNG that differs at every pixel."""
    from PIL import Image

    buffer = io.BytesIO()
    pixels = np.random.default_rng(5).integers(0, 256, (height, width, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()
