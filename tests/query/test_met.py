"""source=met: a CSV as The Met publishes it, and a server that speaks its collection API."""

import time
from pathlib import Path
from typing import Iterator

import pytest

from components.query import attributes, web
from components.query.selection import Settings
from components.query.settings import QueryError
from components.shared.errors import TransientError
from tests.query.tables import run, write_csv
from tests.query.web_servers import WebApi, met_objects, serve

PICTURES = {number: f"https://images.met.test/{number}.jpg" for number in range(1, 101) if number % 5}
PICTURES[10] = ""


@pytest.fixture
def met(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebApi]:
    """The Met's API with pictures of four in five objects."""
    monkeypatch.setattr(web, "BACKOFF_SECONDS", 0.01)
    with serve(met_objects(PICTURES)) as (api, address):
        monkeypatch.setenv("MET_API", address)
        yield api


@pytest.fixture
def table(tmp_path: Path) -> str:
    """100 objects in The Met's own headings; the last ten are not public domain, 81 to 83 a class of their own."""
    rows = [
        {
            "\ufeffObject Number": f"19.{number}",
            "Is Public Domain": str(number <= 90),
            "Object ID": number,
            "AccessionYear": 1900 + number,
            "Culture": "Rare" if 81 <= number <= 83 else ("French", "Japan")[number % 2],
            "Artist Display Name": "",
            "Link Resource": f"http://www.metmuseum.org/art/collection/search/{number}",
        }
        for number in range(1, 101)
    ]
    return write_csv(tmp_path / "MetObjects.csv", rows)


def asked(met: WebApi) -> list[int]:
    """Object ids in the order of asking."""
    return [int(path.rpartition("/")[2]) for path, _, _ in met.requests]


def test_objects_come_from_the_csv_and_pictures_from_the_api(met: WebApi, table: str, tmp_path: Path) -> None:
    selection, rows = run(
        tmp_path, source="met", table=table, label="", where="AccessionYear > 1910", min_images_per_class=4
    )
    wanted = [number for number in range(11, 91) if not 81 <= number <= 83]
    assert sorted(asked(met)) == wanted
    assert {row["object_id"]: row["image_uri"] for row in rows} == {
        str(n): PICTURES[n] for n in wanted if PICTURES.get(n)
    }
    assert selection.without_picture == 90 - len(rows) and selection.labels == ["French", "Japan"]
    assert rows[0]["link"].startswith("http://www.metmuseum.org/") and rows[0]["rights"] == "Public domain"
    assert met.connections <= 16


def test_with_a_cap_only_as_many_are_asked_about_as_needed(met: WebApi, table: str, tmp_path: Path) -> None:
    selection, rows = run(tmp_path, source="met", table=table, label="", max_images_per_class=10, max_classes=2)
    assert [item.pictures for item in selection.classes] == [10, 10] and len(rows) == 20
    assert 20 <= len(asked(met)) < 40


def test_busy_answers_are_repeated_and_unknown_objects_are_not(met: WebApi, table: str, tmp_path: Path) -> None:
    path = "/public/collection/v1/objects/12"
    met.faults[path] = [(503, {}, "busy"), (429, {"Retry-After": "0"}, "")]
    _, rows = run(tmp_path, source="met", table=table, label="")
    assert "12" in {row["object_id"] for row in rows}
    assert (asked(met).count(12), asked(met).count(15)) == (3, 1)
    met.faults[path] = [(500, {}, "")] * 10
    with pytest.raises(TransientError, match="The Met's API answers 500 after 6 tries"):
        run(tmp_path, source="met", table=table, label="")


def test_a_limit_on_the_rate_holds_over_all_threads() -> None:
    """The moments are handed out one interval apart, whoever asks: what The Met asks for is 80 a second."""
    with serve(met_objects(PICTURES)) as (met, address):
        api = web.Api(address, "The Met", requests_per_second=200, connections=4)
        started = time.monotonic()
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda number: api.get(f"/public/collection/v1/objects/{number}"), range(1, 42)))
        assert time.monotonic() - started >= 40 / 200
        assert len(met.requests) == 41


def test_what_could_be_learned_is_told_from_the_csv_alone(met: WebApi, table: str) -> None:
    found = attributes.describe(Settings(source="met", table=table, min_images_per_class=3))
    culture = next(item for item in found.items if item.name == "culture")
    assert found.unit == "objects" and (culture.values, culture.classes) == (3, 3)
    assert "accessionyear" in {item.name for item in found.items} and not met.requests


def test_another_csv_is_refused(met: WebApi, tmp_path: Path) -> None:
    table = write_csv(tmp_path / "x.csv", [{"object_id": 1, "culture": "x"}])
    with pytest.raises(QueryError, match="no column Is Public Domain"):
        run(tmp_path, source="met", table=table)
    with pytest.raises(QueryError, match="take source=table"):
        run(tmp_path, source="met", table=table, images=table)
