"""The card of a backbone: what has to be known to feed it pixels and to read a vector of it.

An entry of the zoo carries one; a backbone of somebody else has it as JSON in its folder (`backbone_card.json`). What a
folder's own configuration says need not be written again.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.shared.errors import PipelineError

FILE_NAME = "backbone_card.json"
POOLINGS = ("cls", "mean", "cls+mean")
LAYOUTS = ("NHWC", "NCHW")
CHANNELS = ("RGB", "BGR")
_REQUIRED = ("input_size", "scale", "mean", "std")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class CardError(PipelineError):
    """A card that lacks a key or has a value that cannot be; the message names the key to write."""


@dataclass(frozen=True)
class Card:
    """How a backbone is fed and read: it sees (pixel * scale - mean) / std.

    Attributes:
        input_size: side in pixels of the images it takes, or was designed for.
        scale: factor on pixels of 0..255.
        mean, std: per channel, after `scale`, in the order of `channels`.
        channels: RGB or BGR.
        layout: NHWC, or NCHW (which only a `saved:` model can ask for).
        pooling: what is read of an output that is no vector: `cls` (the first token), `mean` (over the patches, or over
            a map), or `cls+mean`.
        output: of a model with several outputs, the name of that which is read.
        stages: names of further outputs whose mean and deviation can be read. Style lives there as much as in the last.
        licence: of the weights.
        sha256: of the one file with the weights; checked where it is given.
        minimum_size: smallest side in pixels that a network of flexible size can take.
    """

    input_size: int
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    channels: str = "RGB"
    layout: str = "NHWC"
    pooling: str = "mean"
    output: str = ""
    stages: tuple[str, ...] = ()
    licence: str = ""
    sha256: str = ""
    minimum_size: int = 32

    @property
    def factors(self) -> tuple[list[float], list[float]]:
        """Per channel what pixels are multiplied with, and what is then added."""
        return [self.scale / s for s in self.std], [-m / s for m, s in zip(self.mean, self.std, strict=True)]


def parse(text: bytes, where: str) -> dict[str, Any]:
    """The keys of the card at `where`. Raises CardError: no JSON object, or an unknown key."""
    try:
        values = json.loads(text)
    except ValueError as error:
        raise CardError(f"{where} is no JSON: {error}") from None
    known = [field.name for field in dataclasses.fields(Card)]
    if not isinstance(values, dict):
        raise CardError(f"{where} is no JSON object: write one with {', '.join(_REQUIRED)}")
    if unknown := sorted(set(values) - set(known)):
        raise CardError(f"{where} has {', '.join(unknown)}, which a card has not: use {', '.join(known)}")
    return values


def to_json(card: Card) -> dict[str, Any]:
    """What `parse` takes: the card without the keys that are empty."""
    return {key: value for key, value in dataclasses.asdict(card).items() if value not in ("", ())}


def complete(written: Mapping[str, Any], found: Mapping[str, Any], where: str, required=_REQUIRED) -> Card:
    """The card of what is `written` in its file and otherwise was `found` in the folder's configuration.

    Raises CardError that names the key to write into the file `where`.
    """
    values = {**found, **written}
    if missing := [key for key in required if key not in values]:
        keys = " and ".join(missing)
        raise CardError(f"{where}: nothing there says {keys}; write {keys} into it, as docs/backbones.md shows")
    for key in ("mean", "std"):
        values[key] = _three(values.get(key, getattr(Card, key)), key, where)
    values["stages"] = _names(values.get("stages", ()), where)
    _check(values, where)
    return Card(**values)


def _check(values: Mapping[str, Any], where: str) -> None:
    for key, allowed in (("pooling", POOLINGS), ("layout", LAYOUTS), ("channels", CHANNELS)):
        if key in values and values[key] not in allowed:
            raise CardError(f"{where}: {key}={values[key]!r}; use one of {', '.join(allowed)}")
    for key, most in (("input_size", 4096), ("minimum_size", 4096)):
        value = values.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
            raise CardError(f"{where}: {key}={value!r}; write pixels of one side, a whole number, such as 224")
    scale = values.get("scale", 1)
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 < scale < 1e6:
        raise CardError(f"{where}: scale={scale!r}; write the factor on pixels of 0 to 255, such as 0.00392157")
    if min(values["std"]) <= 0:
        raise CardError(f"{where}: std={list(values['std'])}; write three numbers above 0")
    for key in ("licence", "sha256", "output"):
        if not isinstance(values.get(key, ""), str):
            raise CardError(f"{where}: {key} is no text")
    if values.get("sha256") and not _SHA256.fullmatch(values["sha256"]):
        raise CardError(f"{where}: sha256 has to be 64 digits of 0-9a-f, as sha256sum prints them")


def _three(value: Any, key: str, where: str) -> tuple[float, ...]:
    values = [value] * 3 if isinstance(value, (int, float)) else value
    good = isinstance(values, (list, tuple)) and len(values) == 3
    if not good or not all(isinstance(each, (int, float)) and abs(each) < 1e6 for each in values):
        raise CardError(f"{where}: {key}={value!r}; write three numbers, one per channel")
    return tuple(float(each) for each in values)


def _names(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(each, str) for each in value):
        raise CardError(f"{where}: stages={value!r}; write a list of names, or leave it out")
    return tuple(value)
