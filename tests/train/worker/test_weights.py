from pathlib import Path

import keras
import numpy as np
import pytest

from components.shared.errors import PipelineError
from components.train import models
from components.train.worker import weights

REAL = Path(__file__).parents[4] / "shared/data/weights/mobilenet_v1_0.25_224_imagenet_no_top.weights.h5"


@pytest.fixture(scope="module")
def mobilenet_file(tmp_path_factory) -> str:
    """Weights of MobileNet with a quarter of the filters."""
    path = str(tmp_path_factory.mktemp("weights") / "mobilenet.weights.h5")
    keras.applications.MobileNet(input_shape=(32, 32, 3), alpha=0.25, include_top=False, weights=None).save_weights(
        path
    )
    return path


def test_none_means_from_scratch(tmp_path):
    assert weights.fetch("none", "mobilenet", str(tmp_path)) is None
    assert weights.options(None, "mobilenet") == {}


def test_imagenet_weights_of_a_model_that_has_none(tmp_path):
    with pytest.raises(PipelineError, match="model=simple_cnn has none of ImageNet; use weights=none, or one of vgg16"):
        weights.fetch("imagenet", "simple_cnn", str(tmp_path))


def test_width_of_a_mobilenet_comes_from_its_file(mobilenet_file, tmp_path):
    path = weights.fetch(mobilenet_file, "mobilenet", str(tmp_path))
    assert weights.options(path, "mobilenet") == {"alpha": 0.25}
    assert weights.options(path, "mobilenet_025") == {}


def test_a_checksum_beside_the_file_is_held_against_it(mobilenet_file, tmp_path):
    beside = Path(mobilenet_file + weights.CHECKSUM)
    beside.write_text(f"{weights.digest(mobilenet_file)}  mobilenet.weights.h5\n")
    weights.fetch(mobilenet_file, "mobilenet", str(tmp_path))
    beside.write_text(f"{'0' * 64}  mobilenet.weights.h5\n")
    with pytest.raises(PipelineError, match="has not the sha256 that .*weights.h5.sha256 says: copy both"):
        weights.fetch(mobilenet_file, "mobilenet", str(tmp_path))
    beside.unlink()


def test_loaded_weights_are_those_of_the_file(mobilenet_file):
    network = models.build("mobilenet", 32, 3, {"alpha": 0.25}, pre_trained=True)
    before = network.model.get_weights()
    weights.load(network.base, mobilenet_file, "mobilenet")
    expected = keras.applications.MobileNet(input_shape=(32, 32, 3), alpha=0.25, include_top=False, weights=None)
    expected.load_weights(mobilenet_file)
    loaded = network.base.get_weights()
    assert any(not np.array_equal(a, b) for a, b in zip(before, loaded))
    assert all(np.array_equal(a, b) for a, b in zip(loaded, expected.get_weights(), strict=True))


def test_weights_of_another_architecture_say_what_was_expected_and_found(mobilenet_file):
    network = models.build("mobilenet_v2", 32, 3)
    with pytest.raises(PipelineError) as error:
        weights.load(network.base, mobilenet_file, "mobilenet_v2")
    assert "of another architecture: model=mobilenet_v2 (without its top) has 260 arrays" in str(error.value)
    assert "the file has 135 arrays, 218,544 values, first convolution 3 x 3 x 3 x 8" in str(error.value)


def test_file_that_is_no_weights(tmp_path):
    path = tmp_path / "x.weights.h5"
    path.write_text("<html>not found</html>")
    with pytest.raises(PipelineError, match="x.weights.h5 is no Keras weights file"):
        weights.options(str(path), "mobilenet")
    with pytest.raises(PipelineError, match="x.weights.h5 is no Keras weights file"):
        weights.load(models.build("simple_cnn", 32, 3).base, str(path), "simple_cnn")


@pytest.mark.skipif(not REAL.exists(), reason="../shared/data is not there")
def test_real_imagenet_weights_fit(tmp_path):
    path = weights.fetch(str(REAL), "mobilenet", str(tmp_path))
    assert weights.options(path, "mobilenet") == {"alpha": 0.25}
    network = models.build("mobilenet", 64, 3, {"alpha": 0.25}, pre_trained=True)
    weights.load(network.base, path, "mobilenet")
