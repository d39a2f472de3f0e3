"""POST /similar: the works of the model's own collection that are nearest to an image."""

import base64
from typing import Any

import numpy as np
from starlette.responses import JSONResponse, Response

from components.artifacts.embeddings import unit
from components.artifacts.objects import credit_line, web_link
from components.artifacts.works import Work
from components.server.asked import Asked
from components.server.errors import RequestError
from components.server.settings import MOST_WORKS
from components.server.upload import read_picture


async def similar(asked: Asked) -> Response:
    """The works nearest to one image: a file, raw bytes or `{"url": ...}`."""
    count = wanted(asked, "top", "5")
    async with asked.received() as body:
        _, [features] = await asked.look([await read_picture(asked, body)])
    version = asked.engine.classifier.digest[:12]
    return JSONResponse({"model": asked.settings.name, "version": version, "works": await near(asked, features, count)})


def wanted(asked: Asked, name: str, default: str) -> int:
    """How many works the parameter `name` asks for. Raises RequestError: it is no number, or there are no works."""
    text = asked.query_params.get(name, default)
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= MOST_WORKS):
        raise RequestError(
            400, f"{name}={text[:20]} is not possible: give a whole number up to {MOST_WORKS}", "bad_request"
        )
    if int(text) and not asked.service.works:
        raise RequestError(404, "this model has no works to compare with: train it again with this release", "no_works")
    return int(text)


async def near(asked: Asked, features: np.ndarray, count: int) -> list[dict[str, Any]]:
    """What is answered of the `count` works that are nearest to an image with these `features` [width]."""
    works = asked.service.works
    assert works is not None  # see `wanted`
    return [_answer(work) for work in await asked.aside(works.nearest, unit(features), count)]


def _answer(work: Work) -> dict[str, Any]:
    about = work.about
    jpeg = base64.b64encode(work.thumbnail).decode()
    return {
        "object_id": about["object_id"],
        "similarity": work.similarity,
        "label": about["label"],
        "title": about["title"],
        "artist": about["artist"],
        "credit_line": credit_line(about),
        "link": web_link(about),
        "thumbnail": f"data:image/jpeg;base64,{jpeg}" if jpeg else "",
    }
