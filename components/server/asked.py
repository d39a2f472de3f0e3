"""A request as the views see it, and what is the same for all of them: limits, errors, counting."""

import asyncio
import logging
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import numpy as np
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from components.artifacts.service import SMOKE_HEADER
from components.artifacts.works import Works
from components.server.bodies import Bodies, Body, too_large
from components.server.engine import Engine
from components.server.errors import RequestError, busy
from components.server.limit import Limit
from components.server.monitor import Monitor
from components.server.settings import ServerSettings

LOG = logging.getLogger(__name__)
# nginx's number for a client that went away; nobody gets to see it but the metrics.
CLIENT_GONE = 499


class Service:
    """What the views of one worker work with."""

    def __init__(self, settings: ServerSettings, engine: Engine, monitor: Monitor, works: Works | None = None) -> None:
        """`works` are those that /similar answers with."""
        self.settings, self.engine, self.monitor, self.works = settings, engine, monitor, works
        self.bodies = Bodies(settings.max_upload)
        self.corrections = Limit()
        # JSON and base64 of some megabytes, forms, packed bodies: the event loop must not wait for them.
        self.readers = ThreadPoolExecutor(2, "reader")
        self.fetching = 0
        self.explaining = False  # one image at a time: it takes fifty turns of the engine

    def fetch_ended(self) -> None:
        """An image was fetched by its URL, or could not be."""
        self.fetching -= 1


class Asked(Request):
    """One request; `room` is what its body takes, once there is one."""

    room: Body

    @property
    def service(self) -> Service:
        """What this worker has."""
        return self.app.state.service

    @property
    def settings(self) -> ServerSettings:
        """The server's settings."""
        return self.service.settings

    @property
    def engine(self) -> Engine:
        """The worker's engine."""
        return self.service.engine

    @property
    def until(self) -> float:
        """When it must have its answer, by time.monotonic(): a limit over reading, fetching, waiting and predicting."""
        return self.scope["state"].get("began", time.monotonic()) + self.settings.answer_seconds

    @property
    def media_type(self) -> str:
        """The Content-Type without its parameters, in small letters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def coverage(self) -> float | None:
        """The parameter `coverage`; None where it was not given. Raises RequestError 400: it is no number."""
        text = self.query_params.get("coverage")
        if text is None:
            return None
        try:
            return float(text)
        except ValueError:
            message = f"coverage={(text or '')[:20]} is not possible: give a number between 0 and 1, such as 0.9"
            raise RequestError(400, message, "bad_coverage") from None

    async def look(self, images: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """Engine.look, counted unless it is a smoke test."""
        return await self.engine.look(images, SMOKE_HEADER not in self.headers)

    async def predict(self, images: list[bytes]) -> np.ndarray:
        """The probabilities alone of what `look` returns."""
        return (await self.look(images))[0]

    async def aside(self, work: Callable, *arguments: Any) -> Any:
        """The result of `work(*arguments)`, which takes long, from a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.service.readers, partial(work, *arguments))

    @asynccontextmanager
    async def received(self) -> AsyncIterator[bytes]:
        """The whole body, unpacked, and a place in the engine's queue until it is answered.

        The place is taken when all of the body is here: a client that sends slowly takes none from others.

        Raises:
            RequestError: 413, too many bytes; 415, packed in an unknown way; 400, damaged; 503, no place or no room.
        """
        self.engine.check_room()
        bodies, announced = self.service.bodies, self.headers.get("content-length")
        with bodies.room(None if announced is None else int(announced)) as self.room:
            data = await bodies.read(self.room, self.stream())
            with self.engine.admitted():
                packed = self.headers.get("content-encoding", "identity").strip().lower()
                if packed not in ("", "identity"):
                    bodies.resize(self.room, self.settings.max_upload)
                    data = await self.aside(_unpacked, data, packed, self.settings.max_upload)
                    bodies.resize(self.room, len(data))
                yield data


class _ModelName(Convertor[str]):
    """A model's name in a path: it ends at the colon, which belongs to the verb (`name:predict`)."""

    regex = "[^/:]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("model", _ModelName())


def route(path: str, view: Callable[[Asked], Awaitable[Response]], method: str = "GET", counted: bool = True) -> Route:
    """The route of a view; `counted`: whether its requests are in the metrics, under `path`."""

    async def answer(request: Request) -> Response:
        started = time.perf_counter()
        asked = Asked(request.scope, request.receive)
        response = await _tried(view, asked)
        if counted:
            asked.service.monitor.count_request(path, response.status_code, time.perf_counter() - started)
        return response

    return Route(path, answer, methods=[method], name=view.__name__)


async def _tried(view: Callable[[Asked], Awaitable[Response]], asked: Asked) -> Response:
    try:
        async with asyncio.timeout_at(asked.until):
            return await view(asked)
    except RequestError as error:
        return refusal(error)
    except TimeoutError:
        return refusal(busy("no answer in time: try again in a second, with fewer pictures if there were many"))
    except ClientDisconnect:
        return Response(status_code=CLIENT_GONE)
    except Exception:
        # The client learns nothing about the code; the log has the whole trace.
        LOG.exception("unexpected error in %s %s", asked.method, asked.url.path)
        return JSONResponse({"error": "the server made a mistake; its log says more", "reason": "internal"}, 500)


def refusal(error: RequestError) -> Response:
    """The answer to a request that is refused."""
    return JSONResponse(error.body(), error.status, error.headers())


def http_error(_: Request, error: Exception) -> Response:
    """Starlette's own errors (404, 405) as JSON; their headers, such as Allow, stay."""
    assert isinstance(error, HTTPException)
    body = {"error": error.detail, "reason": error.detail.lower().replace(" ", "_")}
    return JSONResponse(body, error.status_code, error.headers)


def _unpacked(data: bytes, packed: str, limit: int) -> bytes:
    """`data`, which came with a Content-Encoding. Raises RequestError."""
    if packed not in ("gzip", "x-gzip", "deflate"):
        message = f"Content-Encoding {packed[:20]} is not known: send gzip, deflate, or the plain bytes"
        raise RequestError(415, message, "unsupported_encoding")
    # 32 + 15: zlib's header or gzip's; "deflate" is mostly the former, and now and then without any.
    unpacking = zlib.decompressobj(-15 if packed == "deflate" and not _has_header(data) else 47)
    try:
        found = unpacking.decompress(data, limit + 1)
    except zlib.error as error:
        raise RequestError(400, f"the body is no {packed}: {error}", "bad_encoding") from error
    if len(found) > limit:
        raise too_large(limit)
    if not unpacking.eof or unpacking.unused_data:
        raise RequestError(400, f"the {packed} body is cut off, or followed by something else", "bad_encoding")
    return found


def _has_header(data: bytes) -> bool:
    return len(data) > 1 and data[0] & 15 == 8 and (data[0] * 256 + data[1]) % 31 == 0
