"""A tiny data set and short settings, for trainings that take seconds."""

import functools

import pytest

from tests.helpers.stripes import write_dataset
from tests.helpers.train_settings import settings


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> str:
    """A folder with dataset.json: 150 training, 101 validation and 20 test examples."""
    return write_dataset(tmp_path_factory.mktemp("dataset"), {"train": 150, "validation": 101, "test": 20})


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> str:
    """Weights of a MobileNet with a quarter of the filters: random ones, large enough for features to differ."""
    import keras

    from tests.helpers.random_weights import enliven

    path = str(tmp_path_factory.mktemp("weights") / "mobilenet.weights.h5")
    network = keras.applications.MobileNet(input_shape=(32, 32, 3), alpha=0.25, include_top=False, weights=None)
    enliven(network)
    network.save_weights(path)
    return path


@pytest.fixture
def make_settings(tmp_path):
    """Settings of a short training of simple_cnn that logs into the test's folder, with what is given replaced."""
    return functools.partial(settings, logs=str(tmp_path / "logs"), learning_rate=0.003)
