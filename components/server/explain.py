"""What an answer hangs on: `classify?explain=1`, a heat map of the image as the model saw it."""

import base64
from typing import Any

from components.server.asked import Asked
from components.server.errors import RequestError, busy


def is_asked(asked: Asked) -> bool:
    """Whether the request has explain=1. Raises RequestError: it has another value than 0 or 1."""
    value = asked.query_params.get("explain", "0")
    if value not in ("0", "1"):
        raise RequestError(400, f"explain={value[:20]} is not possible: give 0 or 1", "bad_request")
    return value == "1"


async def explanation(asked: Asked, image: bytes, index: int) -> dict[str, Any]:
    """Of an image that was predicted, what the class `index` hangs on; 50 predictions, each in a turn of its own.

    Raises:
        RequestError: 503, another image is being explained by this worker.
    """
    service, engine = asked.service, asked.engine
    if service.explaining:
        raise busy("another picture is being explained: try again in some seconds")
    service.explaining = True
    try:
        jpeg, found = await engine.explain(image, index)
    finally:
        service.explaining = False
    return {
        "label": engine.classifier.labels[index],
        "probability": round(found.whole, 6),
        "lowest": round(found.lowest, 6),
        "picture": f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}",
    }
