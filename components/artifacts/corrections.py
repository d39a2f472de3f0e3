"""What a person says of suspected labels: `corrections.csv`, which the pages write and the query step reads.

A line per object, in CSV as spreadsheets take it (UTF-8; of several lines of one object the last counts):

    object_id  as in objects.parquet
    action     accept: what was suggested is right; correct: something else is; reject: the label is to stay as it is
    label      the class that the object has from now on; of a rejected suggestion the one that it had
    previous   the class that it had, empty if none
    suggested  what was suggested
    source     which page it was said on
    date       when, ISO 8601
"""

import csv
import io
from dataclasses import dataclass

from components.shared.errors import PipelineError
from components.shared.texts import read_text
from components.shared.values import clean

FILE_NAME = "corrections.csv"
COLUMNS = ("object_id", "action", "label", "previous", "suggested", "source", "date")
ACCEPT, CORRECT, REJECT = ACTIONS = ("accept", "correct", "reject")
# What would make a spreadsheet take a field for a formula; such a field is written with ' before it.
FORMULA = "=+-@\t\r"


@dataclass(frozen=True)
class Correction:
    """One object's line; `line` is its number in the file."""

    object_id: str
    action: str
    label: str
    line: int

    @property
    def changes(self) -> bool:
        """Whether it may change the object's class."""
        return self.action != REJECT


def read(uri: str, parameter: str = "label_corrections=") -> dict[str, Correction]:
    """The corrections in the file `uri` (path or URI), by object_id; the label of those that change one is not empty.

    Raises:
        PipelineError: it is no such file; the message begins with `parameter`, names the line and says what to do.
        storage.StorageError: it cannot be read.
    """
    text = read_text(uri, parameter)
    delimiter = ";" if text.partition("\n")[0].count(";") > text.partition("\n")[0].count(",") else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found = {}
    try:
        missing = [name for name in COLUMNS[:3] if name not in (reader.fieldnames or ())]
        if missing:
            raise PipelineError(
                f"{parameter}{uri}: it has no column {missing[0]}; give the {FILE_NAME} that a report's page saved"
            )
        for row in reader:
            if correction := _correction(row, reader.line_num, f"{parameter}{uri}"):
                found[correction.object_id] = correction
    except csv.Error as error:
        raise PipelineError(f"{parameter}{uri}, line {reader.line_num}: is no CSV ({error})") from error
    if not found:
        raise PipelineError(f"{parameter}{uri}: it has no corrections; leave the parameter empty")
    return found


def _correction(row: dict, line: int, where: str) -> Correction | None:
    object_id, action, label = (clean(_plain(row[name] or "")) or "" for name in COLUMNS[:3])
    if not (object_id or action or label):
        return None
    if action not in ACTIONS:
        raise PipelineError(f"{where}, line {line}: the action {action!r} is none of {', '.join(ACTIONS)}")
    if not object_id or (action != REJECT and not label):
        raise PipelineError(f"{where}, line {line}: {action} needs an object_id and a label")
    return Correction(object_id, action, label, line)


def _plain(value: str) -> str:
    return value[1:] if value[:1] == "'" and value[1:2] and value[1] in FORMULA else value
