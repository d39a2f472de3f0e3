"""Backbones of somebody else: `hub:` folders, from their files to every form of the classifier."""

import importlib.util
import socket

import numpy as np
import pytest

from components.artifacts import classifier
from components.artifacts.classifier import KERAS
from components.train import backbones, models
from components.train.worker import training
from components.train.worker.foreign import Foreign
from tests.helpers import backbone_folders, jpegs

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("keras_hub") is None, reason="KerasHub is not installed: make test installs it"
)
MAKE = {
    "dinov2": backbone_folders.dinov2,
    "dinov2 with registers": lambda folder: backbone_folders.dinov2(folder, registers=2),
    "vit": backbone_folders.vit,
    "bare vit": lambda folder: backbone_folders.vit(folder, prefix=""),
    "deit": lambda folder: backbone_folders.vit(folder, "deit.", "deit"),
    "siglip": backbone_folders.siglip,
    "swin": backbone_folders.swin,
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A backbone in a folder needs no connection."""

    def refuse(*_):
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def opened(place: str, tmp_path, **reading) -> tuple[Foreign, models.Network]:
    backbone = backbones.describe(f"hub:{place}")
    foreign = Foreign.open(backbone, str(tmp_path / "copies"))
    network = models.build(backbone.name, 28, 3, None, True, models.Reading(**reading), foreign)
    foreign.load(models.pre_trained_part(network.base))
    return foreign, network


@pytest.mark.parametrize("name", MAKE)
def test_every_layout_gives_features_that_depend_on_the_image_and_are_the_same_in_litert(name, tmp_path):
    from components.train.worker import lite

    _, network = opened(MAKE[name](tmp_path / "folder"), tmp_path)
    images = np.random.default_rng(1).integers(0, 256, (2, 28, 28, 3)).astype(np.uint8)
    features = network.base(images.astype(np.float32), training=False).numpy()
    assert features.shape[0] == 2 and np.abs(features[0] - features[1]).max() > 0.01
    answers = lite.Runner(lite.convert(network.base), 1)(images)
    assert np.abs(answers - features).max() < 1e-4


def test_a_bare_vit_is_the_same_network_as_one_with_a_head(tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (1, 28, 28, 3)).astype(np.float32)
    rows = [
        opened(backbone_folders.vit(tmp_path / str(number), prefix), tmp_path)[1].base(images, training=False).numpy()
        for number, prefix in enumerate(("vit.", ""))
    ]
    assert np.array_equal(*rows)


def test_siglip_answers_as_its_formula_says(tmp_path):
    """KerasHub has no converter of it: ours is held against the network written out in NumPy."""
    from safetensors.numpy import load_file

    place = backbone_folders.siglip(tmp_path / "folder")
    foreign, _ = opened(place, tmp_path)
    network = foreign.network(28)
    foreign.load(network)
    images = np.random.default_rng(1).normal(0, 1, (2, 28, 28, 3)).astype(np.float32)
    expected = siglip_by_hand(load_file(f"{place}/model.safetensors"), images, heads=2, layers=2)
    assert np.abs(network(images, training=False).numpy() - expected).max() < 1e-4


def siglip_by_hand(tensors: dict, images: np.ndarray, heads: int, layers: int) -> np.ndarray:
    """[batch, width]: transformers' SiglipVisionModel's pooler_output, on images [batch, side, side, 3]."""
    get = {name.removeprefix("vision_model."): value.astype(np.float64) for name, value in tensors.items()}

    def dense(x, name):
        return x @ get[f"{name}.weight"].T + get[f"{name}.bias"]

    def norm(x, name):
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return scaled * get[f"{name}.weight"] + get[f"{name}.bias"]

    def gelu(x):
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    def attend(q, k, v):
        split = [each.reshape(*each.shape[:2], heads, -1).transpose(0, 2, 1, 3) for each in (q, k, v)]
        scores = split[0] @ split[1].transpose(0, 1, 3, 2) / np.sqrt(split[0].shape[-1])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (weights / weights.sum(-1, keepdims=True)) @ split[2]
        return mixed.transpose(0, 2, 1, 3).reshape(q.shape)

    kernel, bias = get["embeddings.patch_embedding.weight"], get["embeddings.patch_embedding.bias"]
    patches = images.reshape(len(images), 2, 14, 2, 14, 3).transpose(0, 1, 3, 5, 2, 4).reshape(len(images), 4, -1)
    x = patches @ kernel.reshape(len(kernel), -1).T + bias + get["embeddings.position_embedding.weight"]
    for layer in range(layers):
        name = f"encoder.layers.{layer}"
        y = norm(x, f"{name}.layer_norm1")
        y = attend(*(dense(y, f"{name}.self_attn.{part}_proj") for part in "qkv"))
        x = x + dense(y, f"{name}.self_attn.out_proj")
        y = norm(x, f"{name}.layer_norm2")
        x = x + dense(gelu(dense(y, f"{name}.mlp.fc1")), f"{name}.mlp.fc2")
    x = norm(x, "post_layernorm")
    probe = np.repeat(get["head.probe"], len(x), axis=0)
    kernels = np.split(get["head.attention.in_proj_weight"], 3)
    biases = np.split(get["head.attention.in_proj_bias"], 3)
    q, k, v = (each @ kernel.T + bias for each, kernel, bias in zip((probe, x, x), kernels, biases, strict=True))
    x = dense(attend(q, k, v), "head.attention.out_proj")
    y = dense(gelu(dense(norm(x, "head.layernorm"), "head.mlp.fc1")), "head.mlp.fc2")
    return (x + y)[:, 0]


def test_cls_and_mean_are_read_as_the_card_says_and_registers_are_in_neither(tmp_path):
    place = backbone_folders.dinov2(tmp_path / "folder", registers=2)
    (tmp_path / "folder/backbone_card.json").write_text('{"pooling": "cls+mean", "stages": ["stage1"]}')
    foreign, network = opened(place, tmp_path, stages=True)
    images = np.random.default_rng(1).integers(0, 256, (2, 28, 28, 3)).astype(np.float32)
    features = network.base(images, training=False).numpy()
    assert features.shape == (2, 4 * 16) and models.last_width(network.base, foreign.backbone.card) == 32
    scale, offset = map(np.float32, foreign.backbone.card.factors)
    tokens = models.pre_trained_part(network.base)(images * scale + offset, training=False)[0].numpy()
    for part, expected in ((features[:, :16], tokens[:, 0]), (features[:, 16:32], tokens[:, 3:].mean(axis=1))):
        assert part == pytest.approx(expected / np.linalg.norm(expected, axis=1, keepdims=True), abs=1e-5)


def test_trained_fine_tuned_and_exported_from_a_folder(dataset, make_settings, tmp_path):
    import keras
    import tensorflow as tf

    place = backbone_folders.dinov2(tmp_path / "dinov2-tiny")
    settings = make_settings(model=f"hub:{place}", head="regression", fine_tune_epochs="1", view="center")
    output = tmp_path / "classifier"
    result = training.run(settings, dataset, str(output), str(tmp_path / "checkpoints"))
    assert result.model.startswith("hub-dinov2-tiny-") and result.history[-1]["phase"] == "fine_tune"
    loaded = classifier.load(str(output))
    assert loaded.card["backbone"]["digest"] == backbones.digest(backbones.describe(settings.model), place)
    assert loaded.card["backbone"]["card"]["input_size"] == 28
    encoded = [jpegs.flat(40, 40), backbone_folders.noise(40, 44)]
    answers = loaded.predict(encoded)
    signature = tf.saved_model.load(str(output / "1")).signatures["serving_default"]
    assert np.abs(signature(image_bytes=tf.constant(encoded))["probabilities"].numpy() - answers).max() < 1e-4
    pixels = np.stack([loaded._prepared(image) for image in encoded]).astype(np.float32)
    logits = keras.models.load_model(output / KERAS)(pixels, training=False) / loaded.card["temperature"]
    assert np.abs(tf.nn.softmax(logits).numpy() - answers).max() < 1e-4
