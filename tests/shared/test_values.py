"""One spelling for what looks the same, by Python and by SQL."""

import random
import sys

import duckdb
import pyarrow
import pytest

from components.shared.values import clean, clean_sql, spelled


def by_sql(texts: list[str]) -> list[str | None]:
    with duckdb.connect() as database:
        database.register("given", pyarrow.table({"place": range(len(texts)), "text": texts}))
        rows = database.execute(f"SELECT {clean_sql('text')} FROM given ORDER BY place").fetchall()
    return [row[0] for row in rows]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("  Ann\u00a0 Lee ", "Ann Lee"),
        ("Ann\u3000Lee", "Ann Lee"),
        ("Ann\r\nLee\u0085\u2028\x1c", "Ann Lee"),
        ("Cafe\u0301", "Café"),
        ("\ufeffAnn\u200b L\u00adee\u200e", "Ann Lee"),
        ("e\u200b\u0301", "é"),
        ("Ann | Bo||Cy |", "Ann|Bo|Cy"),
        (" | ", ""),
        ("french", "french"),
        ("می\u200cخواهم", "می\u200cخواهم"),
    ],
)
def test_what_looks_the_same_has_one_spelling(text: str, expected: str) -> None:
    assert clean(text) == expected and by_sql([text]) == [expected or None]
    assert len(expected.splitlines()) <= 1


def test_a_separator_keeps_its_blanks() -> None:
    assert (spelled(", "), spelled(" | "), spelled("\u00a0-\u00a0")) == (", ", "|", " - ")


def test_python_and_sql_agree_about_every_character() -> None:
    characters = [chr(point) for point in range(sys.maxunicode + 1) if not 0xD800 <= point < 0xE000]
    texts = ["x".join(characters[start : start + 64]) for start in range(0, len(characters), 64)]
    assert by_sql(texts) == [clean(text) for text in texts]


def test_python_and_sql_agree_about_strings_and_cleaning_twice_changes_nothing() -> None:
    dice = random.Random(3)
    pieces = ["a", "é", "e\u0301", "\u0301", " ", "\u00a0", "\u200b", "|", "\n", "\u2028", "\u1100", "\u1161", "\u11a8"]
    texts = ["".join(dice.choices(pieces, k=dice.randrange(1, 9))) for _ in range(20_000)]
    found = by_sql(texts)
    assert found == [clean(text) or None for text in texts]
    assert by_sql([text or "" for text in found]) == found
