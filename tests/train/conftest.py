"""A tiny data set and short settings, for trainings that take seconds."""

import functools

import pytest

from tests.helpers.stripes import write_dataset
from tests.helpers.train_settings import settings


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> str:
    """A folder with dataset.json: 150 training, 101 validation and 20 test examples."""
    return write_dataset(tmp_path_factory.mktemp("dataset"), {"train": 150, "validation": 101, "test": 20})


@pytest.fixture
def make_settings(tmp_path):
    """Settings of a short training of simple_cnn that logs into the test's folder, with what is given replaced."""
    return functools.partial(settings, logs=str(tmp_path / "logs"), learning_rate=0.003)
