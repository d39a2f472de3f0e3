"""The engine by itself: turns in order, one deadline a request, one ranking, headers read without decoding."""

import asyncio
import base64
import json
import threading

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from components.artifacts import classifier
from components.server import app, picture
from components.server.balance import Balance
from components.server.engine import Engine
from components.server.monitor import Monitor, Window
from components.server.predict import predict_files
from components.server.settings import ServerSettings
from components.shared import imaging
from components.shared.errors import PipelineError
from tests.helpers import asgi, colour_model, hostile


class Slow:
    """A classifier that says when it is asked, and answers when it is let."""

    labels = ["a"]

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.let = threading.Semaphore(0)

    def look(self, images: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
        self.asked += images
        assert self.let.acquire(timeout=30)
        return np.ones([1, 1], np.float32), np.ones([1, 3], np.float32)


def test_turns_come_in_the_order_in_which_they_were_asked_for():
    """Whoever has several pictures comes after those who waited."""
    slow = Slow()

    async def ask() -> None:
        engine = Engine(slow, None, queue=9)
        many = asyncio.create_task(engine.predict([b"many 1", b"many 2", b"many 3"], counted=False))
        await asyncio.sleep(0)
        others = [asyncio.create_task(engine.predict([name], counted=False)) for name in (b"a", b"b")]
        await asyncio.sleep(0)
        slow.let.release(9)
        await asyncio.gather(many, *others)

    asyncio.run(ask())
    assert slow.asked == [b"many 1", b"a", b"b", b"many 2", b"many 3"]


def test_a_turn_that_does_not_come_in_time_is_not_handed_out_later():
    slow = Slow()

    async def ask() -> None:
        engine = Engine(slow, None, queue=9)
        first = asyncio.create_task(engine.predict([b"first"], counted=False))
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await engine.predict([b"late"], counted=False)
        slow.let.release(9)
        await first
        await engine.predict([b"next"], counted=False)

    asyncio.run(ask())
    assert slow.asked == [b"first", b"next"]


def test_a_request_has_one_deadline_however_many_pictures_it_has(classifier_dir):
    """The time was for each picture: 256 of them could outlast the pod's grace period."""
    model = classifier.load(classifier_dir)
    monitor = Monitor(Window(1), 0, model.labels, model.digest[:12], model.engine)
    settings = ServerSettings(classifier_dir, name="colours", answer_seconds=0.1, max_upload=10**9)
    large = base64.b64encode(colour_model.picture("red", 2000, 1500, quality=10)).decode()
    body = json.dumps({"instances": [{"b64": large}] * 200}).encode()
    application = app.create(settings, Engine(model, monitor, queue=4), monitor)
    status, headers, answer = asyncio.run(asgi.post(application, "/v1/models/colours:predict", body))
    assert (status, json.loads(answer)["reason"], headers["retry-after"]) == (503, "busy", "1")


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
