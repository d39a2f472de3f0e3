"""The state of a source: the same while the source is, another one when it has changed, for every kind of source."""

import hashlib
import os
from pathlib import Path

import pytest

from components.query import state
from components.query.state import pipeline_root, source_state
from components.shared.storage import storage
from tests.fakes.bigquery_server import serve_bigquery
from tests.fakes.museums import FlickrPhotos, serve
from tests.helpers.tables import objects, write_csv


def test_a_local_table_its_images_and_the_map(tmp_path: Path) -> None:
    paths = [write_csv(tmp_path / name, objects(4)) for name in ("x.csv", "y.csv", "map.csv")]
    parameters = dict(zip(("table", "images_table", "label_map"), paths), source="table")
    before = source_state(parameters)
    assert before == source_state(parameters) and not before.startswith("unknown")
    for path in paths:
        told = os.stat(path)
        os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns + 1))
        assert source_state(parameters) != before, path
        before = source_state(parameters)


@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_a_table_and_a_folder_in_a_bucket(scheme: str, request: pytest.FixtureRequest) -> None:
    bucket = request.getfixturevalue(f"{scheme}_bucket")
    storage.write_bytes(f"{bucket}/t/x.csv", b"object_id\n1\n")
    table, folder = {"source": "table", "table": f"{bucket}/t/x.csv"}, {"source": "folder", "table": f"{bucket}/t"}
    before = source_state(table), source_state(folder)
    assert before == (source_state(table), source_state(folder)) and before[0] != before[1]
    storage.write_bytes(f"{bucket}/t/x.csv", b"object_id\n2\n")  # as many bytes as before
    after = source_state(table), source_state(folder)
    assert after[0] != before[0] and after[1] != before[1]
    storage.write_bytes(f"{bucket}/t/cat/1.jpg", b"x")
    assert source_state(table) == after[0] and source_state(folder) != after[1]


@pytest.mark.parametrize("has_etag, knows_head", [(True, True), (False, True), (True, False)])
def test_a_table_on_a_web_server(has_etag: bool, knows_head: bool) -> None:
    content = {"text": "object_id\n1\n"}

    def respond(*_) -> tuple:
        tag = hashlib.md5(content["text"].encode()).hexdigest()
        return 200, {"ETag": f'"{tag}"'} if has_etag else {}, content["text"]

    with serve(respond) as (server, address):
        server.knows_head = knows_head
        parameters = {"source": "table", "table": f"{address}/x.csv"}
        before = source_state(parameters)
        assert before == source_state(parameters) and not before.startswith("unknown")
        content["text"] = "object_id\n2\n"
        assert source_state(parameters) != before


def test_a_local_folder(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "b/2.jpg"):
        storage.write_bytes(str(tmp_path / name), b"x")
    parameters = {"source": "folder", "table": str(tmp_path)}
    before = source_state(parameters)
    assert before == source_state(parameters)
    (tmp_path / "b" / "2.jpg").rename(tmp_path / "a" / "2.jpg")
    assert source_state(parameters) != before


def test_bigquery_tells_when_a_table_was_changed_but_not_a_view(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_bigquery() as (server, address):
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", address)
        server.add_table("a.b.objects", "SELECT 1 AS object_id, 'x' AS culture")
        server.add_table("a.b.images", "SELECT 1 AS object_id, 'http://h/1' AS original_image_url")
        parameters = {"source": "bigquery", "table": "a.b.objects", "images_table": "a.b.images"}
        before = source_state(parameters)
        assert before == source_state(parameters) and not before.startswith("unknown") and not server.dry_runs
        server.modified["a.b.images"] = 2
        assert source_state(parameters) not in (before, "")
        server.views.add("a.b.objects")
        assert source_state(parameters) != source_state(parameters)


def test_what_answers_differently_at_any_time_is_trusted_for_a_day(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("FLICKR_API_KEY", "good-key")
    flickr = {"source": "flickr", "keywords": "monkey,crow"}
    met = {"source": "met", "table": write_csv(tmp_path / "MetObjects.csv", objects(2))}
    with serve(FlickrPhotos({})) as (api, address):
        monkeypatch.setenv("FLICKR_API", address)
        monkeypatch.setattr(state, "datetime", _Clock)
        before = [source_state(each) for each in (flickr, met)]
        assert before == [source_state(each) for each in (flickr, met)]
        monkeypatch.setattr(_Clock, "day", "2030-01-02")
        assert not set(before) & {source_state(each) for each in (flickr, met)}
        assert not api.requests


class _Clock:
    day = "2030-01-01"

    @classmethod
    def now(cls, _: object) -> "_Clock":
        return cls()

    def date(self) -> "_Clock":
        return self

    def isoformat(self) -> str:
        return self.day


def test_a_mistake_is_left_for_the_query_step_to_report(tmp_path: Path) -> None:
    for parameters in ({"source": "table", "table": str(tmp_path / "missing.csv")}, {"source": "tabel"}):
        assert source_state(parameters).startswith("unknown at ")


def test_another_root_is_another_state(tmp_path):
    """What is in the cache may lie in a store that this run has no key for."""
    run = "museum-classifier/0b1f6c1e-0000-4000-8000-000000000000/probe/1a2b/state"
    assert pipeline_root(f"minio://mlpipeline/v2/artifacts/{run}") == "minio://mlpipeline/v2/artifacts"
    assert pipeline_root(f"s3://second/team/{run}") == "s3://second/team"
    assert pipeline_root(str(tmp_path / run)) == ""
    sample = {"source": "sample"}
    states = {source_state(sample, root) for root in ("", "minio://mlpipeline/v2/artifacts", "s3://second/team")}
    assert len(states) == 3 and source_state(sample, "s3://second/team") in states
