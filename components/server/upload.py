"""The image in a request: a form's file, the raw body, or JSON with a URL or base64. Always bytes, never a name."""

import asyncio
import base64
import binascii
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from python_multipart.multipart import MultipartParser, parse_options_header

from components.server import remote
from components.server.asked import Asked
from components.server.errors import RequestError, busy
from components.server.settings import MAX_PICTURES

# URLs that answer slowly must not take all places of the queue.
FETCHES = 8
MAX_PARTS = 16
# Lists, objects and their elements: a million empty ones would take a second and a hundred megabytes.
MAX_JSON_PARTS = 64 * MAX_PICTURES
_NO_PICTURE = 'no picture: send a file, the bytes, or {"url": "https://..."}'
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_fetchers = ThreadPoolExecutor(FETCHES, "fetcher")


async def read_picture(asked: Asked, body: bytes) -> bytes:
    """The bytes of the one image in `body`. What they are is found by their content, not by type or name.

    Raises:
        RequestError: there is none or more than one, or its URL cannot be fetched.
    """
    if asked.media_type == "multipart/form-data":
        return await asked.aside(from_form, asked.headers["content-type"], body)
    if asked.media_type == "application/json":
        return await _described(asked, await asked.aside(parse_json, body))
    if not body:
        raise RequestError(400, _NO_PICTURE, "no_picture")
    return body


def parse_json(body: bytes) -> dict:
    """The JSON object in `body`. Raises RequestError 400."""
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_JSON_PARTS:
        # What no JSON parser would have read to the end is told so; the rest is of no request of this API.
        raise RequestError(
            400, f"the body is no JSON of up to {MAX_PICTURES} pictures: it has too many parts", "bad_json"
        )
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body is no JSON: {error}", "bad_json") from error
    if not isinstance(content, dict):
        raise RequestError(400, "the body must be a JSON object", "bad_json")
    return content


def from_base64(text: object) -> bytes:
    """Decodes base64 and raises RequestError 400.

    Standard or URL-safe, in one line or many, with or without padding and a data URL's prefix: clients send them all.
    """
    if not isinstance(text, str):
        raise RequestError(400, "a picture must be a base64 string", "bad_base64")
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        packed = "".join(encoded.split()).encode("ascii").rstrip(b"=").translate(_URL_SAFE)
        return base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(400, f"a picture is no base64: {error}", "bad_base64") from error


class _Form:
    """The parts of a form: (name, whether it has a file name, content). No name is used for a path or a log."""

    def __init__(self) -> None:
        self.parts: list[tuple[bytes, bool, bytearray]] = []
        self.ended = False
        self._field, self._value, self._name, self._is_file = b"", b"", b"", False

    def callbacks(self) -> Any:
        """What the parser calls, all in the order of the bytes."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: setattr(self, "_field", self._field + data[start:end]),
            "on_header_value": lambda data, start, end: setattr(self, "_value", self._value + data[start:end]),
            "on_header_end": self._header,
            "on_headers_finished": lambda: self.parts.append((self._name, self._is_file, bytearray())),
            "on_part_data": lambda data, start, end: self.parts[-1][2].extend(memoryview(data)[start:end]),
            "on_end": lambda: setattr(self, "ended", True),
        }

    def _begin(self) -> None:
        if len(self.parts) == MAX_PARTS:
            raise RequestError(400, f"more than {MAX_PARTS} parts in the form: send one picture", "no_picture")
        self._name, self._is_file = b"", False

    def _header(self) -> None:
        if self._field.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._name, self._is_file = options.get(b"name", b""), b"filename" in options
        self._field, self._value = b"", b""


def from_form(content_type: str, body: bytes) -> bytes:
    """The one image in a form: its file that is not empty, or else a part without a file name.

    Raises:
        RequestError: 400, there is none or more than one, or it is no form.
    """
    form = _Form()
    boundary = parse_options_header(content_type.encode("latin-1"))[1].get(b"boundary")
    if not boundary:
        raise RequestError(400, "a form without a boundary: its Content-Type must name one", "no_picture")
    try:
        parser = MultipartParser(boundary, form.callbacks())
        parser.write(body)
        parser.finalize()
    except ValueError as error:  # the parser's own errors are some
        raise RequestError(400, f"the form is damaged: {error}", "no_picture") from error
    if not form.ended:
        raise RequestError(400, "the form is cut off: its last boundary is missing", "no_picture")
    return _chosen(form.parts)


def _chosen(parts: list[tuple[bytes, bool, bytearray]]) -> bytes:
    files = [content for _, is_file, content in parts if is_file and content]
    named = [content for name, is_file, content in parts if not is_file and content and name == b"file"]
    fields = [content for _, is_file, content in parts if not is_file and content]
    for found in (files, named, fields):
        if len(found) == 1:
            return bytes(found[0])
        if found:
            raise RequestError(400, f"{len(found)} files in the form: send one picture", "no_picture")
    empty = "the file in the form is empty" if any(is_file for _, is_file, _ in parts) else "no file in the form"
    raise RequestError(400, f"{empty}: send one picture", "no_picture")


async def _described(asked: Asked, content: dict) -> bytes:
    if isinstance(content.get("url"), str):
        if not asked.settings.allow_urls:
            raise RequestError(403, "this server does not fetch URLs: send the picture itself", "urls_off")
        return await _fetched(asked, content["url"])
    if "b64" in content:
        return await asked.aside(from_base64, content["b64"])
    raise RequestError(400, 'no picture: JSON needs {"url": "https://..."} or {"b64": "..."}', "no_picture")


async def _fetched(asked: Asked, url: str) -> bytes:
    service, settings = asked.service, asked.settings
    if service.fetching >= FETCHES:
        raise busy("too many pictures are being fetched: try again in a second, or send the picture itself")
    service.bodies.resize(asked.room, settings.max_upload)
    seconds = min(remote.SECONDS, asked.until - time.monotonic())
    loop = asyncio.get_running_loop()
    work = _fetchers.submit(remote.fetch, url, settings.max_upload, settings.allow_private_urls, seconds)
    service.fetching += 1
    # When the thread is done, which may be after nobody waits for it any more.
    work.add_done_callback(lambda _: loop.call_soon_threadsafe(service.fetch_ended))
    data = await asyncio.wrap_future(work)
    service.bodies.resize(asked.room, len(data))
    return data
