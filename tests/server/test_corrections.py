"""What visitors say is wrong: off by default, limited, and saved for a person alone."""

import io
import json
import os

import pytest
import requests
from PIL import Image

from components.serve import local
from components.server.errors import RequestError
from components.server.limit import AT_ONCE, Limit
from tests.helpers import browser
from tests.helpers.colour_model import picture

RED = picture("red", 640, 480)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("corrections")


@pytest.fixture(scope="module")
def url(classifier_dir, place):
    with local.running_server(classifier_dir, "--workers", "1", "--corrections", str(place)) as address:
        yield address


def test_off_by_default(server):
    assert requests.post(f"{server}/correct?label=red", data=RED).status_code == 404
    assert "Not right?" not in requests.get(server).text
    assert "/correct" not in requests.get(f"{server}/openapi.json").json()["paths"]


def test_what_is_saved_then_refused_then_limited(url, place, classifier_dir):
    assert requests.post(f"{url}/correct?label=violet", data=RED).json()["reason"] == "bad_label"
    assert requests.post(f"{url}/correct?label=blue", data=b"no picture").status_code == 415
    payload = RED[:-2] + b"<script>alert(1)</script>\xff\xd9"
    answers = [requests.post(f"{url}/correct?label=blue", data=payload) for _ in range(AT_ONCE)]
    assert [answer.status_code for answer in answers] == [202] * (AT_ONCE - 1) + [429], "what was no picture counts"
    assert int(answers[-1].headers["retry-after"]) >= 1
    name = answers[0].json()["saved"]
    assert sorted(os.listdir(place)) == [f"{name}.jpg", f"{name}.json"], "the same again adds nothing"
    about = json.loads((place / f"{name}.json").read_text())
    assert (about["label"], about["predicted"]) == ("blue", "red") and len(about["version"]) == 64
    stored = (place / f"{name}.jpg").read_bytes()
    assert b"script" not in stored and min(Image.open(io.BytesIO(stored)).size) == 64
    described = requests.get(f"{url}/openapi.json").json()["paths"]["/correct"]["post"]
    assert {"202", "429"} <= set(described["responses"])


def test_the_limit_fills_up_again():
    limit = Limit(most=2, seconds=0.01)
    for _ in range(2):
        limit.take()
    limit = Limit(most=1, seconds=1000)
    limit.take()
    with pytest.raises(RequestError) as refused:
        limit.take()
    assert refused.value.status == 429 and 990 < refused.value.retry_after <= 1001
    limit._at -= 1000
    limit.take()


@pytest.mark.browser
@pytest.mark.skipif(browser.find() is None, reason="no Chromium: install the Debian package chromium")
def test_the_page_sends_one(classifier_dir, tmp_path):
    (tmp_path / "red.jpg").write_bytes(RED)
    saved = tmp_path / "saved"
    with local.running_server(classifier_dir, "--workers", "1", "--corrections", str(saved)) as address:
        with browser.opened() as tab:
            for width in (1200, 400):
                tab.open(address, width, 900)
                tab.choose("#file", tmp_path / "red.jpg")
                tab.wait("!document.getElementById('result').hidden")
                tab.run("document.getElementById('right').value = 'green'")
                tab.run("document.querySelector('#correction button').click()")
                tab.wait("document.getElementById('sent').textContent.startsWith('Thank you')")
                assert tab.run("document.documentElement.scrollWidth") <= width
                tab.screenshot(tmp_path / f"correct-{width}.png")
    assert len(list(saved.glob("*.json"))) == 1
