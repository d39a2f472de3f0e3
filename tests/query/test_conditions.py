"""`where`: what its grammar takes and what not, and how columns compare."""

from pathlib import Path

import pytest

from components.query.conditions import check_condition
from components.query.settings import QueryError
from tests.helpers.tables import objects, run, write_csv

COLUMNS = ["culture", "year", "title", "artist.name"]


@pytest.mark.parametrize(
    "text",
    [
        "(year) IN (SUMMARIZE 'file.csv')",
        "(year) IN (DESCRIBE 'file.csv')",
        "year IN 'file.csv'",
        "(FROM 'file.csv') = 1",
        "EXISTS (SELECT 1)",
        "year > ALL (SELECT 1)",
        "read_text('/etc/passwd') = 'x'",
        "getenv('HOME') = 'x'",
        "current_setting('home_directory') = 'x'",
        "random() < 0.5",
        "count(*) > 1",
        "culture = ?",
        "COLUMNS(*) > 1",
        "true; DROP TABLE objects",
        "(" * 500 + "true" + ")" * 500,
        "NOT " * 900 + "true",
    ],
)
def test_what_the_grammar_does_not_know_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(QueryError, match="where=") as caught:
        check_condition(text, COLUMNS, "duckdb")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, ids",
    [
        ("year > 1800 AND culture IN ('French', 'Dutch')", "2 3 4"),
        ("year BETWEEN 900 AND 1801", "1 2 3"),
        ("year LIKE '09%' OR starts_with(culture, 'D')", "1 2 4"),
        ("culture NOT LIKE 'F%' AND NOT (year = 900)", "2 4"),
        ("lower(trim(culture)) = 'dutch' AND CAST(year AS INTEGER) % 2 = 0", "4"),
        ("coalesce(year, 0) > 1801", "4"),
        ("is_public_domain AND made >= DATE '2020-01-02'", "2 4"),
        ("culture ~ '^[FD]' -- a comment", "1 2 3 4"),
        ("CASE WHEN year > 1800 THEN culture = 'Dutch' ELSE false END", "2 4"),
    ],
)
def test_texts_compare_as_what_they_are_and_stay_what_they_are(tmp_path: Path, text: str, ids: str) -> None:
    years, cultures = ["0900", "1801", "1801", "1802"], ["French", "Dutch", "French", "Dutch"]
    rows = [
        row | {"year": year, "culture": culture, "is_public_domain": "FT"[n % 2].lower(), "made": f"2020-01-0{n + 1}"}
        for n, (row, year, culture) in enumerate(zip(objects(4), years, cultures))
    ]
    rows += [row | {"object_id": 100 + row["object_id"], "culture": "Z", "year": "", "made": ""} for row in rows]
    rows[4:] = [row | {"is_public_domain": "f"} for row in rows[4:]]
    table = write_csv(tmp_path / "x.csv", rows)
    other = " OR object_id > 100"
    _, found = run(tmp_path, table=table, where=f"({text}\n){other}", slices="year")
    assert {row["object_id"] for row in found if row["label"] != "Z"} == set(ids.split())
    assert {row["meta_year"] for row in found} <= {*years, ""}
