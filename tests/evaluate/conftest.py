import pytest

from tests.helpers import colour_model
from tests.helpers.evaluation_data import LABELS, write_dataset


@pytest.fixture(scope="session")
def colours_model(tmp_path_factory) -> str:
    return colour_model.build_once(tmp_path_factory)


@pytest.fixture(scope="session")
def colours_dataset(tmp_path_factory) -> str:
    """48 pictures, 16 a class; two green ones carry the label red, one blue one the label green."""
    objects = [(name, name) for _ in range(15) for name in LABELS] + [("green", "red")] * 2 + [("blue", "green")]
    return write_dataset(tmp_path_factory.mktemp("colours"), objects)
