"""CSV in one dialect, told from the heading: no row is lost, changed or added without an error that names the line.

The dialect is that of RFC 4180: fields in double quotes may hold the delimiter, line ends and doubled quotes. A quote
within a field that does not begin with one is a character, as museums write 5" for five inches. PyArrow parses the
rows; before, every line is checked here, and the rows are counted independently of PyArrow.
"""

import csv
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TextIO

import pyarrow
import pyarrow.csv

from components.query.settings import QueryError
from components.shared.values import clean

DELIMITERS = (",", ";", "\t", "|")
# Bytes that PyArrow parses at a time; a row must fit into one block.
BLOCK = 4 << 20
LONGEST_ROW = 16 << 20
_BLANK_LINES = ("\n", "\r\n", "\r")


class CsvError(QueryError):
    """A line that is not as the heading says; the message names it."""


@dataclass(frozen=True)
class Dialect:
    """How a file is written.

    Attributes:
        delimiter: Between two fields.
        names: Of the columns, distinct whatever their case.
        skipped: Lines before the heading: empty ones, and Excel's `sep=;`.
    """

    delimiter: str
    names: tuple[str, ...]
    skipped: int


@dataclass(frozen=True)
class Scan:
    """What `check_lines` counted: the rows below the heading, and the characters of the longest one."""

    rows: int
    longest: int


def read_dialect(path: str) -> Dialect:
    """The dialect of the UTF-8 file at `path`, as its heading shows it. Raises CsvError."""
    with _opened(path) as file:
        try:
            skipped, head = _first_line(file, 0)
            told = head.rstrip("\r\n")[4:] if head.lower().startswith("sep=") else ""
            if is_told := len(told) == 1:
                skipped, head = _first_line(file, skipped + 1)
            delimiter = told if is_told else guess_delimiter(head)
            fields = next(csv.reader(itertools.chain([head], file), delimiter=delimiter, strict=True), [])
        except csv.Error as error:
            raise CsvError(f"line {skipped + 1}: the heading cannot be read ({error})") from error
        except UnicodeDecodeError as error:
            raise _not_utf8(path) from error
    return Dialect(delimiter, tuple(_distinct([clean(field) for field in fields])), skipped)


def guess_delimiter(head: str) -> str:
    """The one of DELIMITERS that the line `head` has most of, outside quotes; a comma where it has none."""
    return max(DELIMITERS, key=lambda mark: sum(part.count(mark) for part in head.split('"')[::2]))


def check_lines(path: str, dialect: Dialect) -> Scan:
    """Reads every line of the file and counts its rows.

    Raises:
        CsvError: a row has another number of fields than the heading, a field in quotes does not end or goes on after
            them, a row is longer than LONGEST_ROW, or a line is not in UTF-8.
    """
    count, longest, columns = 0, 0, len(dialect.names)
    with _opened(path) as file:
        try:
            for line, fields, length in _rows(file, dialect):
                if fields != columns:
                    raise CsvError(_wrong_width(line, fields, dialect))
                count += 1
                longest = max(longest, length)
        except UnicodeDecodeError as error:
            raise _not_utf8(path) from error
    return Scan(count - 1, longest)


def read_batches(path: str, dialect: Dialect, scan: Scan, wanted: Iterable[str]) -> pyarrow.RecordBatchReader:
    """The columns `wanted`, all of them strings, an empty field as null; streamed.

    Raises:
        CsvError: PyArrow reads the file otherwise than `check_lines` has.
    """
    text = pyarrow.string()
    return pyarrow.csv.open_csv(
        pyarrow.OSFile(path),  # given a name, it would take x.gz for compressed
        # A character takes up to four bytes.
        pyarrow.csv.ReadOptions(
            block_size=max(BLOCK, 4 * scan.longest + 1024),
            column_names=list(dialect.names),
            skip_rows=dialect.skipped,
            skip_rows_after_names=1,
        ),
        pyarrow.csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True),
        pyarrow.csv.ConvertOptions(
            include_columns=list(wanted),
            column_types=dict.fromkeys(dialect.names, text),
            null_values=[""],
            strings_can_be_null=True,
        ),
    )


def _rows(lines: Iterable[str], dialect: Dialect) -> Iterator[tuple[int, int, int]]:
    """(number of the first line, fields, characters) of each row, the heading among them; empty lines are none."""
    delimiter, inside = dialect.delimiter, False
    start = fields = length = 0
    for number, line in enumerate(itertools.islice(lines, dialect.skipped, None), 1 + dialect.skipped):
        if not inside:
            if line in _BLANK_LINES:
                continue
            start, fields, length = number, 1, 0
        length += len(line)
        if length > LONGEST_ROW:
            raise CsvError(f"line {start}: a row of more than {LONGEST_ROW:,} characters; is a quote left open there?")
        if inside or '"' in line:
            found, inside = _outside_quotes(line, inside, delimiter, number, start)
            fields += found
        else:
            fields += line.count(delimiter)
        if not inside:
            yield start, fields, length
    if inside:
        raise CsvError(f"line {start}: a field in quotes does not end; close it, or double a quote that belongs to it")


def _outside_quotes(line: str, inside: bool, delimiter: str, number: int, start: int) -> tuple[int, bool]:
    """The delimiters in `line` outside quotes, and whether the line ends inside them, having begun `inside`."""
    found, position = 0, 0
    while True:
        if not inside:
            quote = line.find('"', position)
            if quote < 0:
                return found + line.count(delimiter, position), False
            found += line.count(delimiter, position, quote)
            position = quote + 1
            if quote and line[quote - 1] != delimiter:
                continue  # within a field
        quote = line.find('"', position)
        while line.startswith('""', quote):
            quote = line.find('"', quote + 2)
        if quote < 0:
            return found, True
        inside, position = False, quote + 1
        if line[position : position + 1] not in (delimiter, "\r", "\n", ""):
            began = f" (the row begins in line {start})" if start != number else ""
            rest = line[max(quote - 20, 0) : quote + 20].strip()
            raise CsvError(f"line {number}{began}: text follows the end of a field in quotes: {rest}")


def _wrong_width(line: int, fields: int, dialect: Dialect) -> str:
    mark = "tab" if dialect.delimiter == "\t" else dialect.delimiter
    columns = len(dialect.names)
    return (
        f"line {line} has {fields} fields and the heading {columns} ({', '.join(dialect.names)[:200]}), parted by "
        f"{mark}; put fields that contain it into double quotes, and correct the file"
    )


def _distinct(names: list[str]) -> Iterator[str]:
    """An empty name is called by its place; of a repeated one the second is called name_2."""
    taken: set[str] = set()
    for place, name in enumerate(names, 1):
        name = base = name or f"column_{place}"
        for number in itertools.count(2):
            if name.lower() not in taken:
                break
            name = f"{base}_{number}"
        taken.add(name.lower())
        yield name


def _first_line(file: TextIO, number: int) -> tuple[int, str]:
    """How many lines, `number` among them, stand before the next one that is not empty; and that one."""
    for line in file:
        if line not in _BLANK_LINES:
            return number, line
        number += 1
    return number, ""


def _opened(path: str) -> TextIO:
    return open(path, encoding="utf-8-sig", newline="")


def _not_utf8(path: str) -> CsvError:
    with open(path, "rb") as file:
        number = 1 + sum(1 for _ in itertools.takewhile(_is_utf8, file))
    return CsvError(f"line {number}: the file is not in UTF-8; save it as CSV UTF-8")


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
