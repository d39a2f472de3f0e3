import shutil
from collections.abc import Iterator

import pyarrow as pa
import pytest

from components.artifacts import classifier, works
from components.serve import local
from tests.helpers.colour_model import COLOURS, picture

HOSTILE = "javascript:alert(1)"


@pytest.fixture(scope="session")
def collection(classifier_dir, tmp_path_factory) -> str:
    """The classifier of colours with nine works; one of them has no link to a web page."""
    folder = tmp_path_factory.mktemp("collection") / "model"
    shutil.copytree(classifier_dir, folder)
    pictures = {f"{colour}-{n}": picture(colour, seed=n) for n in range(3) for colour in COLOURS}
    table = pa.table(
        {
            "object_id": list(pictures),
            "label": [name.partition("-")[0] for name in pictures],
            "title": [f"A <b>{name}</b> work" for name in pictures],
            "artist": ["Somebody"] * 9,
            "rights": ["CC0"] * 9,
            "link": [HOSTILE if name == "red-2" else f"https://museum.example/{name}" for name in pictures],
        }
    )
    jpegs = list(pictures.values())
    works.write(str(folder), table, classifier.load(str(folder)).look(jpegs)[1], lambda row: jpegs[row])
    return str(folder)


@pytest.fixture(scope="session")
def server(collection) -> Iterator[str]:
    """The URL of a real server (two workers) of that classifier for the whole session."""
    with local.running_server(collection, "--name", "colours", "--workers", "2") as url:
        yield url
