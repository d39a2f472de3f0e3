"""The pipeline's parameters as a command line gives them: NAME=VALUE, checked before any work.

A name carries its group (`train_epochs`), because the form of the Kubeflow UI sorts by name and shows nothing else. The
command line also takes the name without its group (`epochs`) and any other ending that only one parameter has.
"""

import difflib
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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


GROUPS = {
    "data": "which collection, and which of its objects",
    "label": "what is learned",
    "split": "training, validation and test",
    "fetch": "how the images are downloaded and stored",
    "check": "what a data set must be like",
    "train": "the model, and how it is trained",
    "eval": "when a model is good enough",
    "serve": "how it is deployed",
    "secret": "Secrets of the cluster",
    "seed": "repeatability",
}


def short_name(name: str) -> str:
    """`name` without its group: epochs for train_epochs."""
    group, separator, rest = name.partition("_")
    return rest if separator and group in GROUPS else name


def resolve(name: str, known: Iterable[str]) -> str:
    """The one of `known` that `name` means: itself, the one that it lacks the group of, or the one that it ends.

    Raises:
        PipelineError: none is meant, or several could be.
    """
    known = list(known)
    meant = [each for each in known if each == name] or [each for each in known if each.partition("_")[2] == name]
    meant = meant or [each for each in known if each.endswith(f"_{name}")]
    if not meant:
        raise PipelineError(_unknown(name, known))
    if len(meant) > 1:
        raise PipelineError(f"{name} could be {' or '.join(meant)}: write the whole name")
    return meant[0]


def parse(
    assignments: Sequence[str], parameters: dict[str, Parameter], base: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Values of all parameters: the defaults, overridden by those of `base`, overridden by `NAME=VALUE` strings.

    Raises:
        PipelineError: an unknown name, a value of the wrong type, or an assignment without `=`.
    """
    if strangers := set(base or {}) - set(parameters):
        names = ", ".join(sorted(strangers))
        raise PipelineError(f"that run has parameters of another version ({names}): start a new one")
    values = {name: parameter.default for name, parameter in parameters.items()} | (base or {})
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not separator:
            raise PipelineError(f"{assignment!r} is not NAME=VALUE; for example epochs=5")
        meant = resolve(name, parameters)
        values[meant] = _convert(name, text, parameters[meant].type)
    return _expand_source(values)


def _convert(name: str, text: str, kind: type) -> Any:
    if "{{$" in text:
        raise PipelineError(f"{name} has '{{{{$' in it, which Kubeflow Pipelines would replace: write it without")
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
    near = [each for each in known if each.startswith(f"{name}_") or f"_{name}_" in each]
    if not near:
        spelled = {spelling: each for each in known for spelling in (short_name(each), each)}
        near = [spelled[spelling] for spelling in difflib.get_close_matches(name, spelled, n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(list(dict.fromkeys(near))[:4])}?" if near else "--help lists them"
    return f"there is no parameter {name!r}: {hint}"


def _expand_source(values: dict[str, Any]) -> dict[str, Any]:
    # `source=flickr:monkey,crow` is a short form of `source=flickr keywords=monkey,crow`.
    source, separator, words = str(values.get("data_source", "")).partition(":")
    if not (separator and source == "flickr"):
        return values
    if values["data_keywords"]:
        raise PipelineError("give the keywords once: source=flickr keywords=monkey,crow")
    return {**values, "data_source": source, "data_keywords": words}


def help_lines(parameters: dict[str, Parameter]) -> list[str]:
    """A line per parameter for `--help`, below the heading of its group; what may be left out of a name is in []."""
    lines = []
    for group, title in GROUPS.items():
        lines += ["", f"{group}: {title}"]
        for parameter in (each for name, each in parameters.items() if name.partition("_")[0] == group):
            default = f" (default: {parameter.default})" if parameter.default != "" else ""
            short = short_name(parameter.name)
            name = f"[{parameter.name.removesuffix(short)}]{short}" if short != parameter.name else short
            lines.append(f"  {name:<37} {parameter.type.__name__:<6} {parameter.help}{default}")
    return lines


def reference(parameters: dict[str, Parameter], choices: Mapping[str, Sequence[str]]) -> str:
    """docs/parameters.md: a table per group; `choices` are the values of the parameters that the form has lists for."""
    parts = [_REFERENCE_HEAD]
    for group, title in GROUPS.items():
        parts.append(f"\n## {group}: {title}\n\n| parameter | default | what |\n|---|---|---|")
        for parameter in (each for name, each in parameters.items() if name.partition("_")[0] == group):
            default = f"`{parameter.default}`" if parameter.default != "" else ""
            values = choices.get(parameter.name, ())
            listed = f" One of: {', '.join(values)}." if len(values) > 6 else ""
            parts.append(f"| `{parameter.name}` | {default} | {parameter.help}{listed} |")
    return "\n".join(parts) + "\n"


_REFERENCE_HEAD = """# Parameters

This page is made from the docstring of `pipeline.py` by `python -m cli.reference`.

The run form of the Kubeflow UI shows these names. `python pipeline.py run`, `submit` and `compile` take `NAME=VALUE`
with the whole name, with the name without its group (`epochs=5` for `train_epochs`), or with any other ending that only
one parameter has."""
