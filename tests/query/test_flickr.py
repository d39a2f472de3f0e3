"""source=flickr against a server that speaks Flickr's REST API."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.query import web
from components.query.settings import QueryError
from components.shared.errors import PipelineError, TransientError
from tests.fakes.museums import FlickrPhotos, WebApi, photo, serve
from tests.helpers.tables import run

PHOTOS = {
    "monkey": [photo(number) for number in range(1200)],
    "wild boar": [photo(number) for number in range(2000, 2030)] + [photo(3)],
    "crow": [
        photo(5000, license="0"),
        photo(5001, url_z=None, url_c=""),
        photo(5004, url_z=None, url_c="", url_s="https://l/5004_m.jpg", url_o="https://l/5004_o.jpg"),
        photo(5002, url_l="https://l/5002_b.jpg"),
        photo(5003),
    ],
}
SETTINGS = {"source": "flickr:monkey,wild boar,crow", "label": ""}


@pytest.fixture
def flickr(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebApi]:
    """A Flickr with PHOTOS, that accepts the key in the environment."""
    monkeypatch.setattr(web, "BACKOFF_SECONDS", 0.01)
    with serve(FlickrPhotos(PHOTOS)) as (api, address):
        monkeypatch.setenv("FLICKR_API", f"{address}/services/rest/")
        monkeypatch.setenv("FLICKR_API_KEY", "good-key")
        yield api


def test_a_keyword_is_a_class_and_all_its_pages_are_read(flickr: WebApi, tmp_path: Path) -> None:
    selection, rows = run(tmp_path, **SETTINGS)
    assert selection.labels == ["crow", "monkey", "wild boar"] and selection.label == "keyword"
    pages = [(parameters["text"], parameters["page"]) for _, parameters, _ in flickr.requests]
    assert pages == [("monkey", "1"), ("monkey", "2"), ("monkey", "3"), ("wild boar", "1"), ("crow", "1")]
    found = {row["object_id"]: row for row in rows}
    # Photo 3 answers to two keywords: it is in neither class. 5000 has no open licence.
    assert len(rows) == 1199 + 30 + 3 and not {"3", "5000", "5001"} & set(found)
    assert selection.counts.ambiguous == 1
    assert selection.without_picture == 1, "5001 has no address, and is counted"
    assert found["5004"]["image_uri"] == "https://l/5004_o.jpg", "of a few sizes, the best"
    assert found["5002"]["image_uri"] == "https://l/5002_b.jpg"
    assert found["5003"]["image_uri"] == "https://live.flickr.test/5003_c.jpg"
    assert found["5003"]["group"] == found["5003"]["artist"] == "Owner 5"
    assert (found["5003"]["rights"], found["5003"]["link"]) == ("CC BY 2.0", "https://www.flickr.com/photos/5@N00/5003")


def test_a_cap_takes_the_most_relevant_and_asks_for_no_more_pages(flickr: WebApi, tmp_path: Path) -> None:
    _, rows = run(tmp_path, **SETTINGS, max_images_per_class=20, where="license = '4'")
    monkeys = {int(row["object_id"]) for row in rows if row["label"] == "monkey"}
    assert monkeys == set(range(20)) and len(flickr.requests) == 3


def test_no_search_is_read_beyond_what_flickr_gives_out(tmp_path: Path, flickr: WebApi) -> None:
    flickr.respond = FlickrPhotos({"a": [photo(number) for number in range(5000)], "b": [photo(9999)]})
    _, rows = run(tmp_path, source="flickr:a,b", label="")
    assert len(rows) == 4001 and len(flickr.requests) == 9


def test_busy_answers_are_repeated(flickr: WebApi, tmp_path: Path) -> None:
    flickr.faults["/services/rest/"] = [(429, {"Retry-After": "0"}, "slow down"), (502, {}, "<html>")]
    assert run(tmp_path, **SETTINGS)[0].counts.source == 1200 + 31 + 4
    assert len(flickr.requests) == 7 and flickr.connections == 1


@pytest.mark.parametrize(
    "source, key, message",
    [
        ("flickr:monkey,unicorn", "good-key", "no picture is left for unicorn"),
        ("flickr:monkey", "good-key", "needs two words or more, one per class: monkey,crow"),
        ("flickr", "good-key", "needs two words or more, one per class: monkey,crow"),
        ("flickr:monkey,crow", "", "needs an API key in FLICKR_API_KEY"),
        ("flickr:monkey,crow", "bad", r"refuses the search for monkey: Invalid API Key .*code 100"),
    ],
)
def test_mistakes_say_what_to_do(
    flickr: WebApi, tmp_path: Path, monkeypatch, source: str, key: str, message: str
) -> None:
    monkeypatch.setenv("FLICKR_API_KEY", key)
    with pytest.raises(PipelineError, match=message) as caught:
        run(tmp_path, source=source, label="")
    assert "good-key" not in str(caught.value)


def test_a_flickr_that_is_down_is_a_failure_that_may_pass(flickr: WebApi, tmp_path: Path) -> None:
    flickr.faults["/services/rest/"] = [(503, {}, "down")] * 10
    with pytest.raises(TransientError, match="Flickr answers 503 after 6 tries"):
        run(tmp_path, **SETTINGS)
    assert len(flickr.requests) == 6
    flickr.faults["/services/rest/"] = [(200, {}, {"stat": "fail", "code": 105, "message": "Service unavailable"})]
    with pytest.raises(TransientError, match="code 105"):
        run(tmp_path, **SETTINGS)
    flickr.faults["/services/rest/"] = [(200, {}, "<html>maintenance</html>")]
    with pytest.raises(QueryError, match="does not answer in JSON"):
        run(tmp_path, **SETTINGS)
