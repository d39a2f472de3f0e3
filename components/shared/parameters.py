"""One wording for every parameter value that is not allowed: `NAME=VALUE is not allowed: use ...`."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

from components.shared.errors import PipelineError

# Kubeflow hands numbers over as JSON, which holds whole numbers exactly up to here.
LARGEST = 2**53
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_SHOWN = 100  # characters of a value that a message repeats


class ParameterError(PipelineError):
    """A value that a parameter does not allow; the message says which ones it does.

    Attributes:
        name: the parameter, with which the message begins; empty if it begins otherwise.
    """

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name

    def of(self, name: str) -> "ParameterError":
        """The same of a parameter that is called `name` elsewhere."""
        return ParameterError(name + str(self).removeprefix(self.name), name) if self.name else self


def refuse(name: str, value: object, use: str) -> ParameterError:
    """The error for `name=value`, ending in what to use instead."""
    return ParameterError(f"{name}={shown(value)} is not allowed: {use}", name)


def choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raises ParameterError, with the nearest allowed value, unless `value` is among them."""
    if value not in allowed:
        text = f"{name}={shown(value)} is not allowed{did_you_mean(value, allowed)}"
        raise ParameterError(f"{text}: use one of {', '.join(allowed)}", name)


def between(name: str, value: float, low: float, high: float) -> None:
    """Raises ParameterError unless low <= value <= high; so NaN is never allowed."""
    if not low <= value <= high:
        kind = "a whole number" if isinstance(value, int) else "a number"
        upper = "" if high == LARGEST and not value > high else f" to {_plain(high)}"
        raise refuse(name, value, f"use {kind} from {_plain(low)}{upper}")


def at_least(name: str, value: float, low: float) -> None:
    """Raises ParameterError unless low <= value; neither NaN nor infinity is."""
    between(name, value, low, LARGEST)


def all_between(settings: object, ranges: Mapping[str, tuple[float, float]]) -> None:
    """`between` for several attributes of `settings`: {name: (low, high)}."""
    for name, (low, high) in ranges.items():
        between(name, getattr(settings, name), low, high)


def dns_name(name: str, value: str, most: int, example: str) -> None:
    """Raises ParameterError unless `value` is a DNS label of at most `most` characters, as Kubernetes names things."""
    if not _DNS_LABEL.fullmatch(value) or len(value) > most:
        raise refuse(name, value, f"use a-z, 0-9 and - between them, at most {most} characters, such as {example}")


def ascii_line(name: str, value: str, example: str) -> None:
    """Raises ParameterError unless `value` can be sent in an HTTP header: short, of one line, ASCII."""
    if not (value.isascii() and value.isprintable() and len(value) <= 200):
        raise refuse(name, value, f"use one line of ASCII, at most 200 characters, such as {example}")


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """` (did you mean culture, country?)`, or nothing if no known value is close."""
    by_lower = {item.lower(): item for item in known}
    found = difflib.get_close_matches(value.lower(), list(by_lower), n=3, cutoff=0.6)
    return f" (did you mean {', '.join(by_lower[item] for item in found)}?)" if found else ""


def shown(value: object) -> str:
    """A value as a message repeats it: on one line, and not longer than a line."""
    text = str(value)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _plain(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"
