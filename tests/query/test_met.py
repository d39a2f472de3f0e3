"""source=met: a CSV as The Met publishes it, and a server that speaks its collection API."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.query import attributes, downloads, web
from components.query.selection import Settings, select
from components.query.settings import QueryError
from components.shared.errors import PipelineError, TransientError
from tests.fakes.museums import WebApi, met_objects, serve
from tests.helpers.tables import run, write_csv

PICTURES = {number: f"https://images.met.test/{number}.jpg" for number in range(1, 101) if number % 5}
PICTURES[10] = ""
PATH = "/public/collection/v1/objects/{}"


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
    assert (selection.without_picture, selection.not_asked) == (77 - len(rows), 13)
    assert selection.labels == ["French", "Japan"]
    assert rows[0]["link"].startswith("http://www.metmuseum.org/") and rows[0]["rights"] == "Public domain"
    assert met.connections <= 16


@pytest.mark.parametrize("image_size, small", [(256, True), (512, False)])
def test_the_small_image_is_taken_where_it_serves(met: WebApi, table: str, tmp_path: Path, image_size, small) -> None:
    respond = met.respond

    def with_small(path: str, parameters: dict[str, str]):
        status, headers, answer = respond(path, parameters)
        if status == 200 and int(path.rpartition("/")[2]) % 2:
            answer["primaryImageSmall"] = answer["primaryImage"].replace("images", "small")
        return status, headers, answer

    met.respond = with_small
    _, rows = run(tmp_path, source="met", table=table, label="", image_size=image_size)
    addresses = {row["object_id"]: row["image_uri"] for row in rows}
    assert addresses["11"] == f"https://{'small' if small else 'images'}.met.test/11.jpg"
    assert addresses["12"] == "https://images.met.test/12.jpg", "there is no small one"


def test_with_a_cap_only_as_many_are_asked_about_as_needed(met: WebApi, table: str, tmp_path: Path) -> None:
    selection, rows = run(tmp_path, source="met", table=table, label="", max_images_per_class=10, max_classes=2)
    assert [item.pictures for item in selection.classes] == [10, 10] and len(rows) == 20
    assert 20 <= len(asked(met)) < 40


def test_busy_answers_are_repeated_and_unknown_objects_are_not(met: WebApi, table: str, tmp_path: Path) -> None:
    met.faults[PATH.format(12)] = [(503, {}, "busy"), (429, {"Retry-After": "0"}, "")]
    _, rows = run(tmp_path, source="met", table=table, label="")
    assert "12" in {row["object_id"] for row in rows}
    assert (asked(met).count(12), asked(met).count(15)) == (3, 1)


def test_an_objects_failure_is_data_and_listed(met: WebApi, table: str, tmp_path: Path) -> None:
    met.faults[PATH.format(12)] = [(500, {}, "")] * 10
    met.faults[PATH.format(13)] = [(403, {}, "")] * 10
    met.faults[PATH.format(14)] = [(200, {}, "<html>no JSON")] * 10
    selection, rows = run(tmp_path, source="met", table=table, label="", min_images_per_class=4)
    found = {row["object_id"] for row in rows}
    assert "11" in found and not {"12", "13", "14"} & found
    assert set(selection.failed) == {"12", "13", "14"} and asked(met).count(12) == 6
    assert "12" in (page := (tmp_path / "profile").read_text()) and "answers 500 after 6 tries" in page
    assert "3 objects got no answer" in str(selection) and selection.metadata()["not_answered"] == 3
    # 10 and every fifth have no picture; 81 to 83 are too few, and those after 90 not in the public domain.
    assert (selection.without_picture, selection.not_asked) == (18, 13)


def test_more_failures_than_allowed_stop_the_step_and_what_was_answered_is_not_asked_again(
    met: WebApi, table: str, tmp_path: Path
) -> None:
    for number in range(1, 91, 4):
        met.faults[PATH.format(number)] = [(403, {}, "")]
    settings = Settings(source="met", table=table, min_images_per_class=1)
    paths = [str(tmp_path / name) for name in ("objects", "labels", "profile", "objects")]
    with pytest.raises(TransientError, match="23 of 90 objects, more than max_failed_fraction=0.2.*answers are kept"):
        select(settings, *paths)
    first, met.requests = asked(met), []
    selection = select(settings, *paths)
    assert sorted(first) == list(range(1, 91)) and sorted(asked(met)) == list(range(1, 91, 4))
    assert not selection.failed and sum(selection.per_split.values()) == sum(
        bool(PICTURES.get(n)) for n in range(1, 91)
    )


def test_an_api_that_is_down_is_not_asked_about_every_object(met: WebApi, tmp_path: Path) -> None:
    rows = [
        {"Is Public Domain": "True", "Object ID": number, "Culture": ("French", "Japan")[number % 2]}
        for number in range(1, 501)
    ]
    table = write_csv(tmp_path / "MetObjects.csv", rows)
    met.respond = lambda path, _: (403, {}, "blocked")
    with pytest.raises(TransientError, match="no answer about 30 objects one after the other .*403"):
        run(tmp_path, source="met", table=table, label="", max_failed_fraction=1.0)
    assert len(met.requests) < 60


@pytest.mark.slow
def test_further_pictures_of_an_object_are_taken_after_the_main_ones(met: WebApi, table: str, tmp_path: Path) -> None:
    met.respond = met_objects({n: [f"http://m/{n}.jpg", f"http://m/{n}-b.jpg"] for n in range(1, 91)})
    _, rows = run(tmp_path, source="met", table=table, label="", min_images_per_class=4)
    assert len(rows) == 2 * 87
    assert {row["object_id"]: row["image_uri"] for row in rows}["7-1"] == "http://m/7-b.jpg"
    _, rows = run(tmp_path, source="met", table=table, label="", min_images_per_class=4, max_images_per_class=20)
    assert len(rows) == 40 and not any("-" in row["object_id"] for row in rows)
    _, rows = run(tmp_path, source="met", table=table, label="", min_images_per_class=4, max_images_per_class=50)
    assert len({row["object_id"] for row in rows if "-" not in row["object_id"]}) == 87 and len(rows) == 100


def test_what_could_be_learned_is_told_from_the_csv_alone(met: WebApi, table: str) -> None:
    found = attributes.describe(Settings(source="met", table=table, min_images_per_class=3))
    culture = next(item for item in found.items if item.name == "culture")
    assert found.unit == "objects" and (culture.values, culture.classes) == (3, 3)
    assert "accessionyear" in {item.name for item in found.items} and not met.requests


def test_the_csv_is_downloaded_once_and_again_when_it_has_changed(
    met: WebApi, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PROGRESS_SECONDS", "0")
    monkeypatch.setattr(downloads, "LEAST_SHOWN", 0)
    monkeypatch.setattr(downloads, "MEGABYTE", 1000)
    content = {"text": Path(table).read_text()}
    size = len(content["text"]) // 1000

    def respond(*_) -> tuple:
        return 200, {"ETag": f'"{len(content["text"])}"'}, content["text"]

    with serve(respond) as (files, address):
        settings = Settings(source="met", table=f"{address}/MetObjects.csv", min_images_per_class=3)
        first = attributes.describe(settings)
        assert first.objects == 100 and f"progress: {size}/{size} MB of the table" in capsys.readouterr().out
        before = len(files.requests)
        assert attributes.describe(settings) == first and len(files.requests) == before + 1  # a HEAD
        content["text"] = content["text"].replace("French", "Francais").strip() + "\n"
        assert "Francais" in str(attributes.describe(settings).items)
        assert len(list((tmp_path / "cache" / "museum-classifier").iterdir())) == 1
        monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
        assert attributes.describe(settings).objects == 100


def test_another_csv_is_refused(met: WebApi, tmp_path: Path) -> None:
    table = write_csv(tmp_path / "x.csv", [{"object_id": 1, "culture": "x"}])
    with pytest.raises(QueryError, match="no column Is Public Domain"):
        run(tmp_path, source="met", table=table)
    with pytest.raises(PipelineError, match="source=met does not read it; use source=table"):
        run(tmp_path, source="met", table=table, images_table=table)
