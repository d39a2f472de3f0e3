"""`pipeline.py predict`: the labels of images, best first."""

import contextlib
import glob
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from components.shared.errors import PipelineError

if TYPE_CHECKING:
    from components.server.predict import Answer

_BAR = 30


def predict(model: str, images: Sequence[str], top: int, as_json: bool, coverage: float | None = None) -> int:
    """Prints label and probabilities of each image; returns 1 if one could not be classified.

    Args:
        coverage: with it, one label is said or none.
        images: paths, URLs, folders (all images below them), patterns, and `-` for standard input.
    """
    from components.artifacts import uncertainty
    from components.server.predict import LIMIT, predict_bytes, predict_files

    if top < 1:
        raise PipelineError(f"--top must be at least 1, not {top}")
    if coverage is not None:
        uncertainty.check_coverage(coverage)
    found = [name for image in images for name in expanded(image)]
    loaded = quietly_loaded(model)
    if coverage is not None:
        loaded.check_decides()
    failed = False
    for image in found:
        try:
            if image == "-":
                answer = predict_bytes(loaded, sys.stdin.buffer.read(LIMIT + 1), "standard input", coverage)
            else:
                [answer] = predict_files(loaded, [image], coverage)
        except PipelineError as error:
            failed = True
            print(json.dumps({"image": image, "error": str(error)}) if as_json else f"{image}\n  error: {error}")
            continue
        print(_json(image, answer, top) if as_json else "\n".join(_lines(image, answer, top)))
    return int(failed)


def quietly_loaded(model: str):
    """The classifier `model`, without what its engine prints."""
    from components.artifacts import classifier

    with without_information():
        return classifier.load(model)


def _json(image: str, answer: "Answer", top: int) -> str:
    predictions = [{"label": label, "probability": round(value, 6)} for label, value in answer.ranking[:top]]
    decided = answer.decision.fields() if answer.decision else {"label": answer.ranking[0][0]}
    return json.dumps({"image": image, **decided, "predictions": predictions})


def _lines(image: str, answer: "Answer", top: int) -> Iterator[str]:
    yield image
    if answer.decision and answer.decision.label is None:
        yield f"  uncertain: {answer.decision.why}"
    for label, value in answer.ranking[:top]:
        yield f"  {value:6.1%}  {_block() * round(value * _BAR):<{_BAR}}  {label}"


def _block() -> str:
    """What a bar is made of: terminals in Latin-1 or cp1252 have no blocks."""
    try:
        "█".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return "#"
    return "█"


def expanded(image: str) -> list[str]:
    """The images that an argument means. Raises PipelineError: a folder or pattern without any."""
    if image == "-" and sys.stdin.isatty():
        raise PipelineError("-: there is nothing on standard input; pipe a picture into it, or give its path")
    if image == "-" or "://" in image or os.path.isfile(image):
        return [image]
    if os.path.isdir(image):
        return _below(image)
    if set("*?[") & set(image) and not os.path.exists(image):
        found = sorted(glob.glob(image, recursive=True))
        if not found:
            raise PipelineError(f"{image}: no file matches")
        return [name for path in found for name in (_below(path) if os.path.isdir(path) else [path])]
    return [image]


def _below(folder: str) -> list[str]:
    """The images below a folder, by what is in the files and not by their names."""
    walked = ((place, sorted(names)) for place, inner, names in os.walk(folder) if not inner.sort())
    paths = [os.path.join(place, name) for place, names in walked for name in names if not name.startswith(".")]
    pictures = [path for path in paths if os.path.isfile(path) and _is_picture(path)]
    if not pictures:
        raise PipelineError(f"{folder}: there is no picture in this folder")
    if others := len(paths) - len(pictures):
        print(f"note: {folder}: {others} other files are left out", file=sys.stderr)
    return pictures


def _is_picture(path: str) -> bool:
    from PIL import Image

    try:
        with Image.open(path):
            return True
    except Exception:  # Pillow's readers raise many things at what is none of theirs
        return False


@contextlib.contextmanager
def without_information() -> Iterator[None]:
    """Holds back what LiteRT prints from C++ as INFO while it loads a model; there is no switch for that."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        before = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
            held.seek(0)
            for line in held:
                if not line.startswith(b"INFO: "):
                    os.write(2, line)
