import pytest

from tests.serve import model_fixture


@pytest.fixture(scope="session")
def classifier_dir(tmp_path_factory) -> str:
    """A classifier of three colours, as training would have written it."""
    return model_fixture.build(tmp_path_factory.mktemp("classifier"))
