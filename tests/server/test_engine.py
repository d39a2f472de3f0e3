"""The engine by itself: turns in order, one deadline a request, one ranking, headers read without decoding."""

import base64
import threading
import time

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from components.artifacts import classifier
from components.server import app, picture
from components.server.engine import Engine, Turns
from components.server.monitor import Monitor, Window
from components.server.predict import predict_files
from components.server.server import Balance
from components.server.settings import ServerSettings
from components.shared import imaging
from components.shared.errors import PipelineError
from tests.helpers import colour_model, hostile


def test_turns_come_in_the_order_in_which_they_were_asked_for():
    """Whoever gives the turn back and asks again at once comes after those who waited."""
    turns, order = Turns(), []
    assert turns.take(0)

    def wait(name: str) -> None:
        assert turns.take(time.monotonic() + 60)
        order.append(name)
        turns.give_back()

    threads = []
    for number, name in enumerate("abc"):
        threads.append(threading.Thread(target=wait, args=[name]))
        threads[-1].start()
        while len(turns._waiting) <= number:
            time.sleep(0.001)
    turns.give_back()
    wait("first again")
    for thread in threads:
        thread.join()
    assert order == ["a", "b", "c", "first again"]


def test_a_turn_that_does_not_come_in_time_is_not_handed_out_later():
    turns = Turns()
    assert turns.take(0)
    assert not turns.take(time.monotonic() + 0.01)
    turns.give_back()
    assert turns.take(0) and not turns.take(0)


@pytest.fixture
def client(classifier_dir, tmp_path, monkeypatch):
    def make(**settings):
        model = classifier.load(classifier_dir)
        monitor = Monitor(Window(1), 0, model.labels, model.digest[:12])
        chosen = ServerSettings(classifier_dir, name="colours", **settings)
        return app.create(chosen, Engine(model, monitor, queue=4), monitor).test_client()

    return make


def test_a_request_has_one_deadline_however_many_pictures_it_has(client):
    """The time was for each picture: 256 of them could outlast the pod's grace period."""
    large = base64.b64encode(colour_model.picture("red", 2000, 1500, quality=10)).decode()
    asked = {"instances": [{"b64": large}] * 200}
    answer = client(answer_seconds=0.1, max_upload=10**9).post("/v1/models/colours:predict", json=asked)
    assert (answer.status_code, answer.json["reason"], answer.headers["Retry-After"]) == (503, "busy", "1")


def test_a_stopping_server_has_more_time_than_an_answer_takes():
    assert ServerSettings("").answer_seconds < ServerSettings("").grace_seconds


def test_the_size_is_read_without_decoding(monkeypatch):
    """Pillow's EXIF decodes a PNG whole: 60 MB per request, in as many threads as there are."""

    def load(_):
        raise AssertionError("decoded")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", load)
    picture.check(hostile.large_png(20))
    with pytest.raises(imaging.ImageError) as refused:
        picture.check(hostile.large_png(21))
    assert refused.value.reason == "too_many_pixels"


def test_the_command_line_has_the_server_s_limit(classifier_dir, tmp_path):
    (tmp_path / "large.png").write_bytes(hostile.large_png(21))
    with pytest.raises(PipelineError, match="large.png: 5000 x 4200 pixels, more than 20 million"):
        predict_files(classifier.load(classifier_dir), [str(tmp_path / "large.png")])


def test_ties_after_rounding_keep_the_order_of_the_model():
    """0.3000001 before 0.3 though both are shown as 0.3; true equals in the order of the labels."""
    model = classifier.Classifier(["a", "b", "c", "d"], {}, "litert", "", None)
    row = np.array([0.3, 0.3000003, 0.2, 0.2], np.float32)
    assert model.ranking(row) == [("b", 0.3), ("a", 0.3), ("c", 0.2), ("d", 0.2)]
    assert model.ranking(row, 1) == [("b", 0.3)]


def test_who_takes_the_next_connection():
    balance = Balance(3)
    balance.note(0, 2)
    assert not balance.lighter(0), "nobody else is there"
    balance.note(1, 1)
    assert balance.lighter(0) and not balance.lighter(1)
    balance.note(0, 1)
    assert not balance.lighter(0), "one of two equals must take it"
    balance.note(0, 5)
    balance.leave(1)
    assert not balance.lighter(0), "whoever takes no more is not waited for"


@pytest.mark.parametrize(
    "option",
    [{"port": 99_999}, {"port": 0}, {"workers": -1}, {"queue": 0}, {"max_upload": 0}, {"read_seconds": 0}]
    + [{"name": name} for name in ("a/b", "é", "")],
)
def test_impossible_settings(option):
    [name] = option
    with pytest.raises(PipelineError, match=f"--{name.replace('_', '-')}.* is not possible: give") as refused:
        ServerSettings("model", **option)
    assert "\n" not in str(refused.value)


def test_the_check_of_odd_modes_lets_the_decoder_speak():
    for data in hostile._originals():
        try:
            picture.check(data)
        except imaging.ImageError as error:
            assert error.reason == "too_many_pixels"
    assert Image.MAX_IMAGE_PIXELS, "Pillow's own limit is still on"
