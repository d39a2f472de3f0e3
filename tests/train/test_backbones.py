"""What the files of a backbone say, and one line for every mistake, before TensorFlow is even imported."""

import importlib.util
import json
import os
import shutil
import string
import subprocess
import sys
from pathlib import Path

import pytest

from components.shared.errors import PipelineError
from components.train import backbones
from components.train.backbones import describe
from components.train.cards import FILE_NAME
from tests.helpers import backbone_folders
from tests.helpers.train_settings import settings

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("safetensors") is None, reason="KerasHub is not installed: make test installs it"
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A folder of a DINOv2 as transformers writes it."""
    return Path(backbone_folders.dinov2(tmp_path_factory.mktemp("hub") / "dinov2-tiny"))


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    """A copy of it, to be spoilt."""
    return Path(shutil.copytree(whole, tmp_path / "dinov2-tiny"))


def card(folder: Path, **keys) -> None:
    (folder / FILE_NAME).write_text(json.dumps(keys))


def edit(path: Path, **changes) -> None:
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def line(name: str) -> str:
    """The one line with which the model `name` is refused."""
    with pytest.raises(PipelineError) as error:
        describe(name)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folders_own_configuration_is_its_card(folder):
    (folder / "README.md").write_text("---\ntags:\n- vision\nlicense: apache-2.0\n---\n# A model\n")
    found = describe(f"hub:{folder}")
    assert (found.form, found.tokens, found.flexible, found.tunable) == ("transformers", 1, False, True)
    own = found.card
    assert (own.input_size, own.pooling, own.licence) == (28, "cls", "apache-2.0")
    assert own.mean == (0.485, 0.456, 0.406) and own.scale == pytest.approx(1 / 255)


def test_what_the_card_says_goes_before_the_configuration(folder):
    card(folder, input_size=42, pooling="cls+mean", mean=[0.5, 0.5, 0.5], std=0.5, licence="CC0-1.0")
    own = describe(f"hub:{folder}").card
    assert (own.input_size, own.pooling, own.mean, own.std) == (42, "cls+mean", (0.5,) * 3, (0.5,) * 3)
    assert own.factors[0] == pytest.approx([2 / 255] * 3) and own.factors[1] == [-1] * 3


@pytest.mark.parametrize(
    "changes, size",
    [
        ({"size": {"shortest_edge": 32}, "crop_size": {"height": 28, "width": 28}, "do_center_crop": True}, 28),
        ({"size": 42}, 42),
        ({"size": None}, 56),
        ({"size": {"shortest_edge": 42}, "crop_size": 28, "do_center_crop": False}, 42),
    ],
)
def test_sizes_of_preprocessors(folder, changes, size):
    edit(folder / "preprocessor_config.json", **changes)
    assert describe(f"hub:{folder}").card.input_size == size


@pytest.mark.parametrize(
    "changes, mean, scale",
    [
        ({"do_normalize": False}, 0.0, 1 / 255),
        ({"do_rescale": False}, 0.485, 1.0),
        ({"rescale_factor": None}, 0.485, 1 / 255),
    ],
)
def test_preparations_of_preprocessors(folder, changes, mean, scale):
    edit(folder / "preprocessor_config.json", **changes)
    own = describe(f"hub:{folder}").card
    assert own.mean[0] == mean and own.scale == pytest.approx(scale)


def test_timm_and_keras_hub_folders_say_it_otherwise(tmp_path):
    import numpy as np

    config = {"architecture": "resnet18", "num_classes": 10, "pretrained_cfg": {
        "mean": [0.5] * 3, "std": [0.25] * 3, "input_size": [3, 224, 224], "license": "apache-2.0"}}  # fmt: skip
    place = backbone_folders.write(tmp_path / "timm", config, {"x": np.zeros(3, np.float32)}, None)
    found = describe(f"hub:{place}")
    assert (found.form, found.flexible, found.card.input_size, found.card.licence) == ("timm", True, 224, "apache-2.0")
    preset = tmp_path / "preset"
    preset.mkdir()
    network = {
        "registered_name": "keras_hub>DINOV2Backbone",
        "config": {"image_shape": [518, 518, 3], "patch_size": 14},
    }
    (preset / "config.json").write_text(json.dumps(network))
    converter = {"config": {"scale": [1 / 51, 1 / 51, 1 / 51], "offset": [-2.0, -2.0, -2.0], "image_size": [518, 518]}}
    (preset / "image_converter.json").write_text(json.dumps(converter))
    (preset / "model.weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(90))
    found = describe(f"hub:{preset}")
    assert (found.form, found.card.input_size) == ("keras_hub", 518)
    assert found.card.factors[0] == pytest.approx([1 / 51] * 3) and found.card.factors[1] == pytest.approx([-2.0] * 3)


_PLAIN = set(string.ascii_letters + string.digits + "_.-")
SPOILT = {
    "no such folder": (lambda folder: shutil.rmtree(folder), "there is no such folder, or it is empty"),
    "no configuration": (lambda folder: (folder / "config.json").unlink(), "the folder has no config.json but model.s"),
    "configuration is a page": (
        lambda folder: (folder / "config.json").write_text("<!DOCTYPE html><p>log in"), "as a gated download leaves"),
    "a language model": (
        lambda folder: edit(folder / "config.json", model_type="bert"), "no bert of transformers can be converted"),
    "of no library": (
        lambda folder: edit(folder / "config.json", model_type=None), "neither registered_name"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
    "only a pickle": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        "pytorch_model.bin is a pickle, which can run code when it is loaded, and is never loaded: convert it where"),
    "a pickle by another name": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"\x80\x04\x95" + bytes(99)), "but a pickle, which"),
    "a pointer": (
        lambda folder: (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid"),
        "but a pointer of Git LFS: run git lfs pull"),
    "a gated file": (
        lambda folder: (folder / "model.safetensors").write_text("Access to model x is restricted. You must"),
        "accept its licence, log in"),
    "cut short": (
        lambda folder: os.truncate(folder / "model.safetensors", 9000), "9,000 bytes and should have"),
    "a missing part": (
        lambda folder: (folder / "model.safetensors.index.json").write_text(
            '{"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}'),
        "model-00002-of-00002.safetensors is missing, which model.safetensors.index.json names"),
    "wrong checksum": (lambda folder: card(folder, sha256="0" * 64), "its card says 0000"),
    "no mean": (
        lambda folder: edit(folder / "preprocessor_config.json", image_mean=None),
        f"{FILE_NAME}: nothing there says mean; write mean into it"),
    "no preprocessor": (
        lambda folder: (folder / "preprocessor_config.json").unlink(),
        "nothing there says scale and mean and std; write scale and mean and std into it"),
    "no multiple of the patch": (lambda folder: card(folder, input_size=30), "no multiple of its patches of 14"),
    "unknown key": (lambda folder: card(folder, license="x"), "has license, which a card has not: use input_size"),
    "card is no JSON": (lambda folder: (folder / FILE_NAME).write_text("{"), f"{FILE_NAME} is no JSON"),
    "wrong pooling": (lambda folder: card(folder, pooling="max"), "pooling='max'; use one of cls, mean, cls+mean"),
    "wrong size": (lambda folder: card(folder, input_size="224"), "input_size='224'; write pixels"),
    "wrong mean": (lambda folder: card(folder, mean=[1, 2]), "mean=[1, 2]; write three numbers"),
    "zero std": (lambda folder: card(folder, std=0), "write three numbers above 0"),
    "odd checksum": (lambda folder: card(folder, sha256="abc"), "64 digits"),
}  # fmt: skip


@pytest.mark.parametrize("what", SPOILT)
def test_one_line_for_every_mistake(folder, what):
    spoil, expected = SPOILT[what]
    spoil(folder)
    assert expected in line(f"hub:{folder}")


def test_a_fixed_network_takes_no_other_size(tmp_path):
    place = Path(backbone_folders.vit(tmp_path / "vit"))
    card(place, input_size=56)
    assert "input_size=56, but this vit takes 28 pixels and no others" in line(f"hub:{place}")
    card(place, layout="NCHW")
    assert "take NHWC" in line(f"hub:{place}")


def test_a_pooling_that_the_network_has_not(tmp_path):
    place = Path(backbone_folders.swin(tmp_path / "swin"))
    card(place, pooling="cls")
    assert "pooling=cls, but swin has no cls token; use mean" in line(f"hub:{place}")


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"model": "hub:"}, "a path or URI has to follow"),
        ({"model": "keras:ConvNextSmall"}, "did you mean keras:ConvNeXtSmall"),
        ({"model": "hub:x/y", "weights": "s3://a/b.h5"}, "hub:x/y brings its own; use none"),
        ({"model": "saved:x.onnx", "fine_tune_epochs": "2"}, "what saved: names stays frozen"),
    ],
)
def test_parameters_that_cannot_be(changes, expected):
    with pytest.raises(PipelineError) as error:
        settings(**changes)
    assert expected in str(error.value)


def test_a_foreign_backbone_is_pre_trained_whatever_weights_says():
    assert settings(model="hub:x/y", head="regression").probes
    assert settings(model="mobilenet_v2,hub:x/y", weights="imagenet").pre_trained
    assert not settings(model="mobilenet_v2").pre_trained
    assert settings(model="saved:x.onnx", fine_tune_epochs="auto").tuning_epochs(100_000, 1e-6) == 0


def test_names_for_files_are_short_plain_and_different():
    names = [
        "simple_cnn",
        "keras:ConvNeXtSmall",
        "hub:s3://a/b/dinov2 small/",
        "hub:s3://a/c/dinov2 small",
        "saved:x.onnx",
    ]
    short = [backbones.short_name(name) for name in names]
    assert short[:2] == ["simple_cnn", "keras-ConvNeXtSmall"] and short[2].startswith("hub-dinov2-small-")
    assert len(set(short)) == len(short) and all(set(name) <= _PLAIN for name in short)


def test_downloaded_once_by_content(whole, s3_bucket, tmp_path, monkeypatch):
    from components.shared.storage import storage

    monkeypatch.setenv(backbones.CACHE_VARIABLE, str(tmp_path / "cache"))
    storage.upload_all((str(path), f"{s3_bucket}/tiny/{path.name}") for path in whole.iterdir())
    name = f"hub:{s3_bucket}/tiny"
    first = backbones.local(describe(name), str(tmp_path / "none"))
    assert backbones.digest(describe(name), first) == backbones.digest(describe(f"hub:{whole}"), str(whole))
    before = backbones.states(name, "none")
    marker = Path(first) / "marker"
    marker.touch()
    assert backbones.local(describe(name), "") == first and marker.exists(), "it was downloaded again"
    changed = (whole / "config.json").read_text() + " "
    storage.write_bytes(f"{s3_bucket}/tiny/config.json", changed.encode())
    assert backbones.local(describe(name), "") != first
    assert backbones.states(name, "none") != before and backbones.states("simple_cnn", "imagenet") == "none"


def test_run_refuses_it_before_any_work(folder, tmp_path):
    (folder / "config.json").unlink()
    command = [sys.executable, "pipeline.py", "run", "--root", str(tmp_path / "runs"), f"model=hub:{folder}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: model=hub:") and done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()
