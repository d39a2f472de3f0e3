"""What `pipeline.py predict` reads: paths and addresses as fetch reads them, and never without end."""

import pytest

from components.artifacts import classifier
from components.server.predict import predict_files
from components.shared.errors import PipelineError
from tests.fakes import web_server as web
from tests.helpers.colour_model import picture


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom"])
def test_a_device_has_no_end(device):
    with pytest.raises(PipelineError, match=f"{device}: more than 50 MB"):
        predict_files(None, [device])


@pytest.mark.parametrize("place", ["{folder}", "{folder}/none.jpg", "C:\\none.jpg", "javascript:x", ""])
def test_what_cannot_be_read_is_named(tmp_path, place):
    with pytest.raises(PipelineError):
        predict_files(None, [place.format(folder=tmp_path)])


def test_paths_and_addresses(classifier_dir, tmp_path):
    model = classifier.load(classifier_dir)
    red = picture("red", 64, 48)
    (tmp_path / "No. #5.jpg").write_bytes(red)
    (tmp_path / "12: a.jpg").write_bytes(red)
    with web.serving({"/No.%20%235.jpg": web.reply(body=red)}) as url:
        places = [f"{tmp_path}/No. #5.jpg", f"file://{tmp_path}/No. #5.jpg", f"{tmp_path}/12: a.jpg"]
        places += [f"{url}/No. #5.jpg", f"\ufeff{url.upper()}/No. #5.jpg\n"]
        assert {answer.ranking[0][0] for answer in predict_files(model, places)} == {"red"}
