"""What an answer hangs on: in the API, within the queue's limits, and on the page."""

import asyncio
import base64
import io

import numpy as np
import pytest
import requests
from PIL import Image

from components.artifacts import classifier
from components.server.engine import Engine
from components.shared.imaging import encode_jpeg
from tests.helpers import browser

# Grey, but for a red corner on the upper right.
PIXELS = np.full((64, 64, 3), 90, np.uint8)
PIXELS[6:24, 40:58] = (250, 20, 10)
PICTURE = encode_jpeg(PIXELS, 95)


def test_the_heat_is_where_the_answer_is(server):
    plain = requests.post(f"{server}/classify", data=PICTURE).json()
    answer = requests.post(f"{server}/classify?explain=1", data=PICTURE).json()
    found = answer.pop("explanation")
    assert answer == plain and found["label"] == plain["predictions"][0]["label"] == "red"
    assert found["probability"] == plain["predictions"][0]["probability"] > found["lowest"]
    heat = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["picture"].partition(",")[2]))), float)
    gain = heat.mean(axis=2) / 90
    half = len(heat) // 2
    assert gain[half:, :half].mean() < gain[:half, half:].mean()
    refused = requests.post(f"{server}/classify?explain=yes", data=PICTURE)
    assert refused.status_code == 400 and "give 0 or 1" in refused.json()["error"]


def test_others_have_their_turns_meanwhile(classifier_dir):
    """It takes fifty predictions, and whoever comes then waits for one of them and not for all."""
    engine, ended = Engine(classifier.load(classifier_dir), None, queue=4), []

    async def ask(name: str, work) -> None:
        await work
        ended.append(name)

    async def both() -> None:
        explained = asyncio.create_task(ask("explained", engine.explain(PICTURE, 0)))
        await asyncio.sleep(0)
        await asyncio.gather(explained, ask("predicted", engine.predict([PICTURE], counted=False)))

    asyncio.run(both())
    assert ended == ["predicted", "explained"]


@pytest.mark.browser
@pytest.mark.skipif(browser.find() is None, reason="no Chromium: install the Debian package chromium")
def test_the_pages_button(server, tmp_path):
    (tmp_path / "corner.jpg").write_bytes(PICTURE)
    with browser.opened() as tab:
        for width in (1200, 400):
            tab.open(server, width, 900)
            tab.choose("#file", tmp_path / "corner.jpg")
            tab.wait("!document.getElementById('result').hidden")
            tab.run("document.getElementById('why').click()")
            tab.wait("!document.getElementById('heat').hidden && document.querySelector('#heat img').naturalWidth > 0")
            assert "speaks for red" in tab.run("document.querySelector('#heat figcaption').textContent")
            assert tab.run("document.documentElement.scrollWidth") <= width
            tab.screenshot(tmp_path / f"why-{width}.png")
