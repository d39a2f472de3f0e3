from collections.abc import Iterator

import pytest

from components.serve import local


@pytest.fixture(scope="session")
def server(classifier_dir) -> Iterator[str]:
    """The URL of a real server (two workers) for the whole session."""
    with local.running_server(classifier_dir, "--name", "colours", "--workers", "2") as url:
        yield url
