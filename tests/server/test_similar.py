"""Similar works: over HTTP, on the command line and on the page; nearest first, exactly, in bounded memory."""

import json
import shutil

import numpy as np
import psutil
import pyarrow as pa
import pytest
import requests

from cli.similar import similar
from components.artifacts import embeddings, works
from components.serve import local
from components.server import server as server_module
from components.shared.errors import PipelineError
from tests.helpers import browser
from tests.helpers.colour_model import picture

RED = picture("red", 640, 480)


def test_nearest_works_over_http(server):
    answer = requests.post(f"{server}/similar?top=4", data=RED).json()
    assert [work["label"] for work in answer["works"]][:3] == ["red"] * 3 and len(answer["works"]) == 4
    similarities = [work["similarity"] for work in answer["works"]]
    assert similarities == sorted(similarities, reverse=True) and similarities[0] <= 1
    by_id = {work["object_id"]: work for work in answer["works"]}
    assert by_id["red-2"]["link"] == "" and by_id["red-1"]["link"] == "https://museum.example/red-1"
    assert by_id["red-1"]["credit_line"] == "Somebody. CC0"
    assert by_id["red-1"]["thumbnail"].startswith("data:image/jpeg;base64,")
    # In the same pass as the answer, if it is asked for; and the answer is the one without.
    plain = requests.post(f"{server}/classify", data=RED).json()
    both = requests.post(f"{server}/classify?similar=4", data=RED).json()
    assert both.pop("works") == answer["works"] and both == plain


@pytest.mark.parametrize("path", ["/similar?top=-1", "/similar?top=101", "/classify?similar=x"])
def test_a_number_that_cannot_be_is_refused(server, path):
    response = requests.post(f"{server}{path}", data=RED)
    assert response.status_code == 400 and "whole number up to 100" in response.json()["error"]


def test_a_model_without_works_says_so(classifier_dir):
    with local.running_server(classifier_dir, "--workers", "1") as bare:
        response = requests.post(f"{bare}/similar", data=RED)
        assert response.status_code == 404 and response.json()["reason"] == "no_works"
        assert "/similar" not in requests.get(f"{bare}/openapi.json").json()["paths"]
    with pytest.raises(PipelineError, match="has no works to compare with: train the model again"):
        similar(classifier_dir, ["a.jpg"], 5, False)


def test_command_line(collection, tmp_path, capsys):
    (tmp_path / "blue.jpg").write_bytes(picture("blue", 640, 480, seed=9))
    assert similar(collection, [str(tmp_path / "blue.jpg")], 2, True) == 0
    found = json.loads(capsys.readouterr().out)["works"]
    assert [work["label"] for work in found] == ["blue", "blue"]
    assert similar(collection, [str(tmp_path / "blue.jpg"), "nowhere.jpg"], 1, False) == 1
    out = capsys.readouterr().out
    assert "blue · A <b>blue" in out and "Somebody. CC0 · https://museum.example/blue" in out and "error: " in out


def test_works_are_exact_and_take_60_mb_of_10_000(tmp_path):
    vectors = np.random.default_rng(1).normal(size=(10_000, 1280)).astype(np.float16)
    names = [f"{number:05d}" for number in range(len(vectors))]
    table = pa.table({"object_id": names, "label": ["a"] * len(names)})
    jpeg = picture()
    works.write(str(tmp_path), table, vectors, lambda row: jpeg)
    process = psutil.Process()
    before = process.memory_info().rss
    known = works.load(str(tmp_path))
    asked = embeddings.unit(vectors[123].astype(np.float32) + 0.1)
    found = known.nearest(asked, 10)
    assert process.memory_info().rss - before < 60e6
    expected = np.argsort(-(embeddings.unit(vectors) @ asked))[:10]
    assert [work.about["object_id"] for work in found] == [names[row] for row in expected]
    assert found[0].about["object_id"] == "00123" and found[0].similarity > 0.9


def test_more_works_than_a_pod_has_room_for_are_left_out(collection, monkeypatch, capsys):
    assert server_module._known_works(collection, collection) is not None
    monkeypatch.setattr(server_module, "WORKS_BYTES", 9 * 3 * 4)  # the header of the file counts too
    assert server_module._known_works(collection, collection) is None
    assert "similar works are off" in capsys.readouterr().out


def test_damaged_works_are_one_line(collection, tmp_path):
    shutil.copytree(collection, tmp_path / "model")
    (tmp_path / "model" / works.FOLDER / works.LINES).write_bytes(b"{}")
    with pytest.raises(PipelineError, match="do not fit each other"):
        works.load(str(tmp_path / "model"))


@pytest.mark.browser
@pytest.mark.skipif(browser.find() is None, reason="no Chromium: install the Debian package chromium")
def test_the_page_shows_them_and_asks_no_museum(server, tmp_path):
    (tmp_path / "red.jpg").write_bytes(RED)
    with browser.opened() as tab:
        for width in (1200, 400):
            tab.open(server, width, 900)
            tab.choose("#file", tmp_path / "red.jpg")
            tab.wait("document.querySelectorAll('#works li').length === 6")
            assert tab.run("document.documentElement.scrollWidth") <= width
            first = "document.querySelector('#works li')"
            assert "A <b>red-" in tab.run(f"{first}.innerText") and "Somebody. CC0" in tab.run(f"{first}.innerText")
            links = tab.run("[...document.querySelectorAll('#works a')].map(a => a.href)")
            assert len(links) == 5 and all(link.startswith("https://museum.example/") for link in links)
            loaded = tab.run("performance.getEntriesByType('resource').map(entry => entry.name)")
            assert not [name for name in loaded if not name.startswith((server, "data:", "blob:"))]
            tab.screenshot(tmp_path / f"similar-{width}.png")
