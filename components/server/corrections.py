"""POST /correct: a visitor says that an answer is wrong. It is saved for a person to look at, and for nothing else.

Off unless the server has a folder for it. What is kept is the image as it would be stored, encoded anew, never the
client's bytes, and what was answered. No step of the pipeline reads the folder.
"""

import hashlib
import json
from datetime import UTC, datetime

from starlette.responses import JSONResponse, Response

from components.server.asked import Asked
from components.server.errors import RequestError, busy
from components.server.upload import read_picture
from components.shared import imaging
from components.shared.storage import storage

_QUALITY = 90


async def correct(asked: Asked) -> Response:
    """Saves one image, given as to /classify, with the `label` that it should have had."""
    label, engine = asked.query_params.get("label", ""), asked.engine
    if label not in engine.classifier.labels:
        raise RequestError(400, f"label={label[:60]!r} is no class of this model", "bad_label")
    async with asked.received() as body:
        asked.service.corrections.take()
        image = await read_picture(asked, body)
        [row], _ = await engine.look([image], counted=False)
        jpeg = await engine.alone(_stored, image, engine.classifier.card["stored_size"])
        [best] = engine.best(row, 1)
        about = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "label": label,
            "predicted": best.label,
            "probability": best.probability,
            "version": engine.classifier.digest,
            "sha256": hashlib.sha256(jpeg).hexdigest(),
        }
        # One name for one image and label: who sends the same again adds nothing.
        name = hashlib.sha256(f"{about['sha256']} {label}".encode()).hexdigest()[:24]
        await asked.aside(_save, asked.settings.corrections, name, jpeg, about)
    return JSONResponse({"saved": name}, 202)


def _stored(image: bytes, size: int) -> bytes:
    return imaging.encode_jpeg(imaging.resize_short_side(imaging.decode(image, size), size), _QUALITY)


def _save(folder: str, name: str, jpeg: bytes, about: dict) -> None:
    try:
        storage.write_bytes(storage.join(folder, f"{name}.jpg"), jpeg)
        storage.write_bytes(storage.join(folder, f"{name}.json"), json.dumps(about, ensure_ascii=False).encode())
    except (storage.StorageError, OSError) as error:
        raise busy("the correction could not be saved: try again later") from error
