"""The pipeline's parameters as a command line gives them: NAME=VALUE, checked before any work."""

import difflib
import inspect
import re
from dataclasses import dataclass
from typing import Any, Sequence

from components.shared.errors import PipelineError


@dataclass(frozen=True)
class Parameter:
    """One pipeline parameter: name, Python type, default and the docstring's line about it."""

    name: str
    type: type
    default: Any
    help: str


def declared(pipeline_function) -> dict[str, Parameter]:
    """The parameters that a pipeline function's signature and `Args:` section declare, in order."""
    notes = dict(re.findall(r"^\s{8}(\w+): (.+)$", pipeline_function.__doc__ or "", re.MULTILINE))
    return {
        name: Parameter(name, parameter.annotation, parameter.default, notes.get(name, ""))
        for name, parameter in inspect.signature(pipeline_function).parameters.items()
    }


def parse(
    assignments: Sequence[str], parameters: dict[str, Parameter], base: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Values of all parameters: the defaults, overridden by those of `base`, overridden by `NAME=VALUE` strings.

    Raises:
        PipelineError: an unknown name, a value of the wrong type, or an assignment without `=`.
    """
    values = {name: parameter.default for name, parameter in parameters.items()} | (base or {})
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not separator:
            raise PipelineError(f"{assignment!r} is not NAME=VALUE; for example epochs=5")
        if name not in parameters:
            raise PipelineError(_unknown(name, list(parameters)))
        values[name] = _convert(name, text, parameters[name].type)
    return _expand_source(values)


def _convert(name: str, text: str, kind: type) -> Any:
    if kind is bool:
        lowered = text.lower()
        if lowered not in ("true", "false"):
            raise PipelineError(f"{name} must be true or false, not {text!r}")
        return lowered == "true"
    try:
        return kind(text)
    except ValueError:
        words = {int: "a whole number", float: "a number"}
        raise PipelineError(f"{name} must be {words[kind]}, not {text!r}") from None


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"there is no parameter {name!r}{hint} Known: {', '.join(known)}"


def _expand_source(values: dict[str, Any]) -> dict[str, Any]:
    # `source=flickr:monkey,crow` is what people type; the run form has a drop-down and a field for the words.
    source, separator, words = str(values.get("source", "")).partition(":")
    if not (separator and source == "flickr"):
        return values
    if values["keywords"]:
        raise PipelineError("give the words once: source=flickr:monkey,crow or source=flickr keywords=monkey,crow")
    return {**values, "source": source, "keywords": words}
