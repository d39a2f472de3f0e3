"""CSV: every row as Python's own reader reads it, or an error that names the line."""

import csv
import io
import random
from pathlib import Path

import pytest

from components.query.csv_file import CsvError, check_lines, read_batches, read_dialect


def read(path: Path, data: bytes) -> list[tuple]:
    """The rows below the heading; empty fields are None."""
    path.write_bytes(data)
    dialect = read_dialect(str(path))
    scan = check_lines(str(path), dialect)
    rows = read_batches(str(path), dialect, scan, dialect.names).read_all().to_pylist()
    assert len(rows) == scan.rows
    return [tuple(row.values()) for row in rows]


def by_python(data: bytes) -> list[tuple] | None:
    """The rows as the csv module reads them strictly; None where it refuses, or where rows differ in width."""
    try:
        rows = [row for row in csv.reader(io.StringIO(data.decode(), newline=""), strict=True) if row]
    except csv.Error:
        return None
    if any(len(row) != len(rows[0]) for row in rows):
        return None
    return [tuple(field or None for field in row) for row in rows[1:]]


def test_no_row_is_lost_changed_or_added_without_an_error(tmp_path: Path) -> None:
    """Against an independent reader, on small files of everything that is special in CSV."""
    dice = random.Random(7)
    outcomes = {True: 0, False: 0}
    for _ in range(1500):
        head = "\n" * dice.choice([0, 0, 1]) + dice.choice(["a", 'a,"b"', "a,b,c d"])
        head += dice.choice(["\n", "\r\n", "\r"])
        special = dice.choice(['a",\n"a,\n \\#', 'a",\n"a,\r\n \u2028\u0085', '",\n', "a\"'\n,"])
        data = (head + "".join(dice.choices(special, k=dice.randrange(1, 12)))).encode()
        expected = by_python(data)
        try:
            found = read(tmp_path / "x.csv", data)
        except CsvError as error:
            assert "line " in str(error)
            found = None
        assert found == expected, data
        outcomes[expected is not None] += 1
    assert min(outcomes.values()) > 100


LONG = b"".join(b"%d,French\n" % number for number in range(30_000))


@pytest.mark.parametrize(
    "data, message",
    [
        (b"id,c\n" + LONG + b"1,French,x\n", "line 30002 has 3 fields and the heading 2"),
        (b"id,c\n1,a\n2\n3,c\n", "line 3 has 1 fields"),
        (b"id,c\n1,a\n\n2,b,\n", "line 4 has 3 fields"),
        (b'id,c\n1,"two\nlines"\n2,b,c\n', "line 4 has 3 fields"),
        (b'id,c\n1,"a"b\n', "line 2: text follows the end of a field in quotes"),
        (b'id,c\n1,a\n2,"b\n3,c\n', "line 3: a field in quotes does not end"),
        (b'id,c\n1,"a\n2,"b\n3,c\n', r"line 3 \(the row begins in line 2\): text follows"),
        (b"id,c\n1,a\n2,Caf\xe9\n", "line 3: the file is not in UTF-8"),
        (b"id;c\n1;a\n2;b;c\n", "parted by ;"),
        (b'id,"c\n', "the heading cannot be read"),
    ],
)
def test_an_error_names_the_line(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(CsvError, match=message) as caught:
        read(tmp_path / "x.csv", data)
    assert "\n" not in str(caught.value)


def test_quotes_that_come_late_are_quotes(tmp_path: Path) -> None:
    """DuckDB's sniffer, which looked at the first 20,480 rows, made them part of the values."""
    found = read(tmp_path / "x.csv", b"id,c\n" + LONG + b'"30000","Dutch, ""late"""\n')
    assert len(found) == 30_001 and found[-1] == ("30000", 'Dutch, "late"')


@pytest.mark.parametrize(
    "data, rows",
    [
        ('id,c\n1,5" nail\n', [("1", '5" nail')]),
        ("id;c\n1;a,b\n", [("1", "a,b")]),
        ("id\tc\n1\ta\n", [("1", "a")]),
        ("id|c\n1|a\n", [("1", "a")]),
        ("sep=;\r\nid;c\r\n1;a\r\n", [("1", "a")]),
        ("\ufeffid,c\n# 1,a\n", [("# 1", "a")]),
        ("id,c\r1,a\r2,b\r", [("1", "a"), ("2", "b")]),
        ('id,c\n1,"a\r\nb"\n', [("1", "a\r\nb")]),
        ("id,c\n1,a\u2028b\u0085c\n", [("1", "a\u2028b\u0085c")]),
        ("id,c\n1,NULL\n2,\n", [("1", "NULL"), ("2", None)]),
        ("id,c\n1,a\\\n2,'b'\n", [("1", "a\\"), ("2", "'b'")]),
    ],
)
def test_what_a_file_says_is_what_is_read(tmp_path: Path, data: str, rows: list[tuple]) -> None:
    assert read(tmp_path / "x.csv", data.encode()) == rows


def test_names_of_columns_are_cleaned_and_each_is_another(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("\ufeff id , Name,name,,\u00a0Title\n1,a,b,c,d\n")
    assert read_dialect(str(tmp_path / "x.csv")).names == ("id", "Name", "name_2", "column_4", "Title")


@pytest.mark.slow
def test_a_field_may_be_larger_than_two_megabytes(tmp_path: Path) -> None:
    found = read(tmp_path / "x.csv", b"id,c\n1," + b"x" * 3_000_000 + b'\n2,"' + b"y\n" * 2_000_000 + b'"\n')
    assert [len(row[1]) for row in found] == [3_000_000, 4_000_000]
    with pytest.raises(CsvError, match="line 2: a row of more than"):
        read(tmp_path / "x.csv", b'id,c\n1,"' + b"y\n" * 9_000_000)
