"""The picture in a request: a form's file, the raw body, or JSON with a URL or base64. Always bytes, never a name."""

import base64
import binascii
import threading
import time

from flask import Request

from components.server import remote
from components.server.deadlines import body_read
from components.server.errors import RequestError, busy
from components.server.settings import ServerSettings

# URLs that answer slowly must not take all places of the queue.
_fetches = threading.BoundedSemaphore(8)


def announced_size(request: Request) -> int:
    """How many bytes the body may have: what it says, or else the limit."""
    limit = request.max_content_length or 0  # a server always has one
    return min(limit, request.content_length or limit)


def read_picture(request: Request, settings: ServerSettings, until: float) -> bytes:
    """The bytes of the one picture in `request`. What they are is found by their content, not by type or name.

    A URL is fetched before `until` (of time.monotonic()).

    Raises:
        RequestError: there is none or more than one, or its URL cannot be fetched.
    """
    if request.mimetype == "multipart/form-data":
        return _uploaded(request)
    body = read_body(request)
    if request.mimetype == "application/json":
        return _described(parse_json(request, body), settings, until)
    if not body:
        raise RequestError(400, 'no picture: send a file, the bytes, or {"url": "https://..."}', "no_picture")
    return body


def read_body(request: Request) -> bytes:
    """The whole body, within the limits of size and time."""
    body = request.get_data(cache=False)
    body_read(request.environ)
    return body


def parse_json(request: Request, body: bytes) -> dict:
    """The JSON object in `body`. Raises RequestError 400."""
    try:
        content = request.json_module.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body is no JSON: {error}", "bad_json") from error
    if not isinstance(content, dict):
        raise RequestError(400, "the body must be a JSON object", "bad_json")
    return content


def from_base64(text: object) -> bytes:
    """Decodes base64, standard or URL-safe, with or without a data URL's prefix. Raises RequestError 400."""
    if not isinstance(text, str):
        raise RequestError(400, "a picture must be a base64 string", "bad_base64")
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(encoded.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(400, f"a picture is no base64: {error}", "bad_base64") from error


def _uploaded(request: Request) -> bytes:
    # Only the content is read. The name that came with it is never used: not for a path, a type or the log.
    files = [file for _, values in request.files.lists() for file in values]
    body_read(request.environ)
    if len(files) != 1:
        raise RequestError(400, f"{len(files)} files in the form: send one picture", "no_picture")
    return files[0].stream.read()


def _described(content: dict, settings: ServerSettings, until: float) -> bytes:
    if isinstance(content.get("url"), str):
        if not settings.allow_urls:
            raise RequestError(403, "this server does not fetch URLs: send the picture itself", "urls_off")
        if not _fetches.acquire(blocking=False):
            raise busy("too many pictures are being fetched: try again in a second, or send the picture itself")
        try:
            seconds = min(remote.SECONDS, until - time.monotonic())
            return remote.fetch(content["url"], settings.max_upload, settings.allow_private_urls, seconds)
        finally:
            _fetches.release()
    if "b64" in content:
        return from_base64(content["b64"])
    raise RequestError(400, 'no picture: JSON needs {"url": "https://..."} or {"b64": "..."}', "no_picture")
