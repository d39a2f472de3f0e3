from typing import Iterator

import pytest

from components.serve import local
from tests.serve import model_fixture


@pytest.fixture(scope="session")
def classifier_dir(tmp_path_factory) -> str:
    """A classifier of three colours, as training would have written it."""
    return model_fixture.build_once(tmp_path_factory)


@pytest.fixture(scope="session")
def server(classifier_dir) -> Iterator[str]:
    """The URL of a real server (two workers) for the whole session."""
    with local.running_server(classifier_dir, "--name", "colours", "--workers", "2") as url:
        yield url
