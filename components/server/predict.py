"""`pipeline.py predict`: the server's answer without a server."""

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from components.artifacts.classifier import Classifier
from components.artifacts.embeddings import unit
from components.artifacts.uncertainty import Decision
from components.server import remote
from components.server.errors import RequestError
from components.server.picture import check
from components.shared import addresses, imaging
from components.shared.errors import PipelineError
from components.shared.storage import storage

LIMIT = 50_000_000


@dataclass(frozen=True)
class Answer:
    """All (label, probability), best first; and the decision, if a coverage was asked for."""

    ranking: list[tuple[str, float]]
    decision: Decision | None = None


def predict_files(model: Classifier, images: list[str], coverage: float | None = None) -> list[Answer]:
    """The answer for each of `images`, a path, an http(s) URL or a storage URI.

    The URLs are the user's own, so they may lead into a private network.

    Raises:
        PipelineError: one of `images` cannot be read or is no image; the message names it.
    """
    return [_answer(model, image, functools.partial(_read, image), coverage) for image in images]


def predict_bytes(model: Classifier, data: bytes, name: str, coverage: float | None = None) -> Answer:
    """The same of an image's own bytes; `name` is for messages. Raises PipelineError."""
    return _answer(model, name, lambda: _limited(data), coverage)


def look(model: Classifier, image: str) -> np.ndarray:
    """The unit vector [width] of `image`, - for standard input, or as predict_files takes it. Raises PipelineError."""
    read = functools.partial(_read, image) if image != "-" else lambda: _limited(sys.stdin.buffer.read(LIMIT + 1))
    return unit(_looked(model, image, read)[1][0])


def _answer(model: Classifier, image: str, read: Callable[[], bytes], coverage: float | None) -> Answer:
    rows, features = _looked(model, image, read)
    decision = None if coverage is None else model.decide(rows, features, coverage)[0]
    return Answer(model.ranking(rows[0]), decision)


def _looked(model: Classifier, image: str, read: Callable[[], bytes]) -> tuple[np.ndarray, np.ndarray]:
    try:
        data = read()
        check(data)
        return model.look([data])
    except (RequestError, imaging.ImageError, addresses.AddressError) as error:
        raise PipelineError(f"{image}: {error}") from error


def _read(image: str) -> bytes:
    # A file of this very name goes before all that its name could mean.
    address = image if os.path.exists(image) else addresses.absolute(image)
    if address.startswith(("http://", "https://")):
        return remote.fetch(address, LIMIT, allow_private=True)
    with storage.open_read(address) as file:
        return _limited(file.read(LIMIT + 1))  # no more: a device has no end


def _limited(data: bytes) -> bytes:
    if len(data) > LIMIT:
        raise RequestError(413, f"more than {LIMIT // 10**6} MB, so no picture is expected in it", "too_large")
    return data
