"""`pipeline.py backbones` and `fetch-weights`."""

import importlib.util
import json
from pathlib import Path

import pytest

from cli.main import main
from components.shared.storage import storage
from tests.helpers import backbone_folders

needs_safetensors = pytest.mark.skipif(
    importlib.util.find_spec("safetensors") is None, reason="KerasHub is not installed: make test installs it"
)


def test_every_name_is_listed_with_its_licence(capsys):
    assert main(["backbones"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("keras:ConvNeXtSmall ") and line.endswith(" MIT") for line in lines)
    assert any(line.startswith("mobilenet_v2 ") and line.endswith(" Apache-2.0") for line in lines)


@needs_safetensors
def test_a_folder_is_copied_to_a_store_with_a_card_that_has_its_checksum(s3_bucket, tmp_path, capsys):
    place = backbone_folders.dinov2(tmp_path / "tiny")
    assert main(["fetch-weights", f"hub:{place}", f"{s3_bucket}/tiny"]) == 0
    assert capsys.readouterr().out == f"python pipeline.py run model=hub:{s3_bucket}/tiny\n"
    card = json.loads(storage.read_bytes(f"{s3_bucket}/tiny/backbone_card.json"))
    assert card["input_size"] == 28 and len(card["sha256"]) == 64
    assert main(["backbones", f"hub:{s3_bucket}/tiny"]) == 0
    assert "form         transformers\n" in capsys.readouterr().out
    data = bytearray((Path(place) / "model.safetensors").read_bytes())
    data[-1] ^= 1
    storage.write_bytes(f"{s3_bucket}/tiny/model.safetensors", bytes(data))
    assert main(["backbones", f"hub:{s3_bucket}/tiny"]) == 2
    assert "its card says" in capsys.readouterr().err


def test_a_model_without_weights_and_a_list(tmp_path, capsys):
    for name, expected in (("simple_cnn", "has none of ImageNet"), ("vgg16,vgg19", "one at a time")):
        assert main(["fetch-weights", name, str(tmp_path)]) == 2
        assert expected in capsys.readouterr().err
