"""source=bigquery: the real client against a server that speaks BigQuery's REST API over DuckDB."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.cloud.bigquery import retry

from components.query import attributes
from components.query.selection import Settings
from components.query.settings import QueryError
from components.shared.errors import TransientError
from components.shared.storage import storage
from tests.fakes.bigquery_server import BigQueryError, BigQueryServer, serve_bigquery, serve_storage_api
from tests.helpers.tables import run

OBJECTS = """
    SELECT i AS object_id, CASE WHEN i % 10 = 0 THEN NULL ELSE ['French', 'Japan', 'Roman'][i % 3 + 1] END AS culture,
        'Title ' || i AS title, CASE WHEN i % 2 = 0 THEN 'Artist ' || (i // 20) END AS artist_display_name,
        i % 4 != 0 AS is_public_domain, 1700 + i AS object_begin_date, 'http://met.test/' || i AS link_resource,
        ['a', 'b'] AS tags, {'x': 'y'} AS nested, 'Paintings' AS department
    FROM range(300) r(i)
"""
IMAGES = """
    SELECT i AS object_id,
        CASE WHEN i < 280 THEN 'http://met.test/' || i || '-' || n || '.jpg' END AS original_image_url,
        CASE WHEN i BETWEEN 280 AND 289 THEN 'gs://other/' || i || '.jpg' END AS gcs_url
    FROM range(295) r(i), range(2) s(n) WHERE n = 0 OR i < 5
"""
TABLES = {
    "source": "bigquery",
    "table": "museum.the_met.objects",
    "images_table": "museum.the_met.images",
    "label": "culture",
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BigQueryServer]:
    """A BigQuery with the tables of a small Met; 100 rows per page."""
    with serve_bigquery(page_rows=100) as (server, address):
        server.add_table("museum.the_met.objects", OBJECTS)
        server.add_table("museum.the_met.images", IMAGES)
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", address)
        yield server


def test_objects_are_joined_with_their_pictures_page_by_page(server: BigQueryServer, tmp_path: Path, capsys) -> None:
    where = "is_public_domain AND object_begin_date < 1980"
    selection, rows = run(tmp_path, **TABLES, where=where)
    expected = [i for i in range(280) if i % 4 and i % 10]
    assert {row["object_id"] for row in rows if "-" not in row["object_id"]} == {str(i) for i in expected}
    assert {row["object_id"]: row["image_uri"] for row in rows}["3-1"] == "http://met.test/3-1.jpg"
    assert (selection.counts.source, selection.counts.matching, selection.counts.no_label) == (300, 210, 14)
    example = next(row for row in rows if row["object_id"] == "42")
    assert (example["label"], example["group"], example["title"]) == ("French", "Artist 2", "Title 42")
    assert (example["rights"], example["link"]) == ("Public domain", "http://met.test/42")
    assert server.pages >= 3
    assert "BigQuery will read" in capsys.readouterr().out


@pytest.mark.parametrize("is_allowed", [True, False])
def test_the_storage_api_gives_the_same_objects_and_pages_stand_in_for_it(
    server: BigQueryServer, tmp_path: Path, monkeypatch, is_allowed: bool
) -> None:
    expected = run(tmp_path, **TABLES, where="object_id < 280")[1]
    pages, server.pages, server.storage_is_allowed = server.pages, 0, is_allowed
    with serve_storage_api(server) as address:
        monkeypatch.setenv("BIGQUERY_STORAGE_EMULATOR_HOST", address)
        assert run(tmp_path, **TABLES, where="object_id < 280")[1] == expected
    assert (server.read_sessions > 0) == is_allowed
    assert server.pages <= 2 if is_allowed else server.pages >= pages


def test_the_price_is_asked_before_the_query_and_only_needed_columns_are_read(
    server: BigQueryServer, tmp_path: Path
) -> None:
    run(tmp_path, **TABLES, where="object_begin_date < 1980", maximum_bytes_billed=40_000)
    (query, configuration), (described, _) = server.queries
    assert server.dry_runs == [query, described]
    assert configuration["query"]["maximumBytesBilled"] == "40000"
    assert "tags" not in query and "SELECT *" not in query and "department" not in query.partition("WHERE")[2]
    page = (tmp_path / "profile").read_text()
    assert "object_begin_date" in page and "Every column of the collection" in page


def test_what_is_too_expensive_to_describe_is_not(server: BigQueryServer, tmp_path: Path) -> None:
    further = ", ".join(f"'{number}' AS further_{number}" for number in range(5))
    server.add_table("museum.the_met.wide", f"SELECT *, {further} FROM ({OBJECTS})")
    settings = {**TABLES, "table": "museum.the_met.wide", "where": "object_id < 280"}
    _, rows = run(tmp_path, **settings, maximum_bytes_billed=25_000)
    assert rows and len(server.queries) == 1 and len(server.dry_runs) == 2
    page = (tmp_path / "profile").read_text()
    assert "Only the columns that this step has read" in page and "more than maximum_bytes_billed=25000" in page


def test_a_query_that_is_too_expensive_is_not_run(server: BigQueryServer, tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="more than maximum_bytes_billed=1000 .*raise that"):
        run(tmp_path, **TABLES, maximum_bytes_billed=1000)
    assert server.dry_runs and not server.queries


def test_pictures_without_an_address_are_found_in_the_bucket(
    server: BigQueryServer, tmp_path: Path, gs_bucket: str
) -> None:
    for name in ("290/0.jpg", "292/0.jpg", "292/1.jpg"):
        storage.write_bytes(storage.join(gs_bucket, name), b"x")
    _, rows = run(tmp_path, **TABLES, where="object_begin_date > 1975", image_base=gs_bucket)
    found = {row["object_id"]: row["image_uri"] for row in rows}
    assert found["281"] == "gs://other/281.jpg"
    assert found["292"] == f"{gs_bucket}/292/0.jpg" and found["292-1"] == f"{gs_bucket}/292/1.jpg"
    assert "291" not in found and "296" not in found


def test_the_mets_public_tables_are_the_default(server: BigQueryServer, tmp_path: Path) -> None:
    server.add_table("bigquery-public-data.the_met.objects", OBJECTS)
    server.add_table("bigquery-public-data.the_met.images", IMAGES)
    _, rows = run(tmp_path, source="bigquery", label="", where="object_id < 100")
    assert len({row["group"] for row in rows}) > 10 and len(rows) > 80


def test_columns_of_another_table_are_mapped(server: BigQueryServer, tmp_path: Path) -> None:
    server.add_table("a-1.b.c", "SELECT i AS id, 'http://h/' || i AS url, i % 2 = 0 AS kind FROM range(10) r(i)")
    columns = "object_id=id,original_image_url=url"
    settings = {"source": "bigquery", "table": "a-1.b.c", "columns": columns, "label": "kind", "where": "object_id < 6"}
    selection, rows = run(tmp_path, **settings)
    assert selection.labels == ["false", "true"] and len(rows) == 6


def test_columns_of_a_separate_images_table_are_mapped_too(server: BigQueryServer, tmp_path: Path) -> None:
    server.add_table("a-1.b.things", "SELECT i AS id, i % 2 = 0 AS kind, 'x' AS url FROM range(10) r(i)")
    server.add_table("a-1.b.photos", "SELECT i AS object_id, 'http://h/' || i AS url FROM range(8) r(i)")
    settings = {"source": "bigquery", "table": "a-1.b.things", "images_table": "a-1.b.photos", "label": "kind"}
    _, rows = run(tmp_path, **settings, columns="object_id=id,original_image_url=url")
    assert {row["object_id"]: row["image_uri"] for row in rows} == {str(i): f"http://h/{i}" for i in range(8)}
    found = attributes.describe(Settings(**settings, columns="object_id=id,original_image_url=url"))
    assert next(item for item in found.items if item.name == "kind").objects == 10
    with pytest.raises(QueryError, match="there is no column uri .did you mean url"):
        run(tmp_path, **settings, columns="object_id=id,original_image_url=uri")


def test_where_is_applied_once_on_a_view_that_does_not_tell_its_rows(server: BigQueryServer, tmp_path: Path) -> None:
    server.views.add("museum.the_met.objects")
    selection, rows = run(tmp_path, **TABLES, where="SAFE_CAST(object_begin_date AS INT64) < 1800")
    assert rows and selection.counts.matching == selection.counts.source == 100


def test_an_error_after_the_first_page_is_one_line(server: BigQueryServer, tmp_path: Path) -> None:
    server.page_failures[100] = BigQueryError(403, "accessDenied", "Access Denied: the table was locked meanwhile")
    with pytest.raises(QueryError) as caught:
        run(tmp_path, **TABLES)
    assert str(caught.value) == "BigQuery refuses access: Access Denied: the table was locked meanwhile"


BAD = [
    ({"where": "cultur = 'x'"}, "there is no column cultur .did you mean culture"),
    ({"where": "culture > 5 +"}, "not an SQL condition"),
    ({"where": "NO_SUCH(culture)"}, "where=NO_SUCH.*NO_SUCH may not stand in a condition"),
    ({"where": "true) UNION ALL SELECT (1"}, "not an SQL condition|without SELECT"),
    ({"where": "object_begin_date > 5000"}, "no object in museum.the_met.objects matches"),
    ({"label": "cultures"}, "no such column.*did you mean culture"),
    ({"table": "museum.the_met.object"}, "does not find a table: Not found: Table museum:the_met.object"),
    ({"table": "objects"}, "called project.dataset.table"),
    ({"table": "a.b.c`; DROP"}, "called project.dataset.table"),
]


@pytest.mark.parametrize("settings, message", BAD, ids=[str(settings) for settings, _ in BAD])
def test_mistakes_are_found_before_anything_is_billed(
    server: BigQueryServer, tmp_path: Path, settings: dict, message: str
) -> None:
    with pytest.raises(QueryError, match=message) as caught:
        run(tmp_path, **{**TABLES, **settings})
    assert "\n" not in str(caught.value)
    assert len(server.queries) == (settings.get("where") == "object_begin_date > 5000")


def test_googles_errors_say_what_to_do(server: BigQueryServer, tmp_path: Path, monkeypatch) -> None:
    server.failures = [BigQueryError(403, "accessDenied", "Access Denied: Project museum: no bigquery.jobs.create")]
    with pytest.raises(QueryError, match="BigQuery refuses access: Access Denied"):
        run(tmp_path, **TABLES)
    server.failures = [BigQueryError(403, "quotaExceeded", "Quota exceeded: free query bytes")]
    with pytest.raises(QueryError, match="Quota exceeded"):
        run(tmp_path, **TABLES)
    server.failures = [BigQueryError(500, "internalFailure", "An internal error occurred")]
    with pytest.raises(TransientError, match="An internal error occurred; try again later"):
        run(tmp_path, **TABLES)
    server.failures = [BigQueryError(401, "authError", "Request had invalid authentication credentials")]
    with pytest.raises(QueryError, match="gcloud auth application-default login"):
        run(tmp_path, **TABLES)
    server.failures = [BigQueryError(409, "duplicate", "Already Exists: Job")] * 9
    with pytest.raises(QueryError, match="BigQuery refuses the query: Already Exists"):
        run(tmp_path, **TABLES)
    monkeypatch.delenv("BIGQUERY_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    with pytest.raises(QueryError, match="gcloud auth application-default login"):
        run(tmp_path, **TABLES)


def test_a_bigquery_that_cannot_be_reached_is_not_taken_for_a_missing_project(tmp_path: Path, monkeypatch) -> None:
    """The client's own retries last ten minutes; here they end at once."""
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:9")
    monkeypatch.setattr(retry.DEFAULT_RETRY, "_timeout", 0.1)
    with pytest.raises(TransientError, match="BigQuery does not answer: .*; try again later") as caught:
        run(tmp_path, **TABLES)
    assert "\n" not in str(caught.value) and "project=" not in str(caught.value)


def test_a_passing_failure_is_tried_again_by_the_client(server: BigQueryServer, tmp_path: Path) -> None:
    server.failures = [BigQueryError(503, "backendError", "try again")]
    assert len(run(tmp_path, **TABLES, where="object_id < 100")[1]) == 94
    assert not server.failures


def test_attributes_are_counted_by_bigquery(server: BigQueryServer) -> None:
    found = attributes.describe(Settings(**TABLES, where="object_id < 200", min_images_per_class=20))
    assert (found.objects, found.unit) == (200, "pictures")
    items = {item.name: item for item in found.items}
    culture = items["culture"]
    assert (culture.values, culture.objects, culture.classes) == (3, 180, 3)
    assert culture.top[0][1] >= culture.top[1][1] and sum(number for _, number in culture.top) == culture.covered == 184
    assert items["artist_display_name"].classes == 0 and items["is_public_domain"].values == 2
    assert "tags" not in items and "object_id" not in items
    with pytest.raises(QueryError, match="no object"):
        attributes.describe(Settings(**TABLES, where="object_id > 5000"))
