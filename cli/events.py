"""kfp.local's log, line by line, as events of the run.

kfp.local has no callbacks; these lines are all it tells. They are those of kfp 2.17, which setup.cfg pins, and
tests/cli/test_events.py runs a real pipeline to notice when they change.
"""

import re
from dataclasses import dataclass
from typing import Literal

_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_STARTED = re.compile(r"Executing task '([\w-]+)'")
_ENDED = re.compile(r"Task '([\w-]+)' finished with status (\w+)")
_CACHED = re.compile(r"Task ([\w-]+) cache hit")
_PROGRESS = re.compile(r"^\s*progress: (\d+)/(\d+) (.*)$")
_ERROR = re.compile(r"^\s*error: (.*)$")


@dataclass(frozen=True)
class Event:
    """`kind` says which of the other fields are filled: progress has done, total, text; error has text."""

    kind: Literal["started", "succeeded", "failed", "cached", "progress", "error"]
    task: str = ""
    done: int = 0
    total: int = 0
    text: str = ""


def parse(line: str) -> Event | None:
    """The event that a line of the log tells of, or None."""
    line = _COLOR.sub("", line)
    if match := _STARTED.search(line):
        return Event("started", match[1])
    if match := _ENDED.search(line):
        return Event("succeeded" if match[2] == "SUCCESS" else "failed", match[1])
    if match := _CACHED.search(line):
        return Event("cached", match[1])
    if match := _PROGRESS.match(line):
        return Event("progress", done=int(match[1]), total=int(match[2]), text=match[3].strip())
    if match := _ERROR.match(line):
        return Event("error", text=match[1].strip())
    return None
