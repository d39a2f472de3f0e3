"""The memory that requests' bodies may take in one worker."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from components.server.errors import RequestError, busy

# A larger body is counted with the size that it says it has, before it is read; others as they come.
LARGE = 1_000_000
# So that many uploads at once cannot fill a pod's memory; each kind has its own room, so neither keeps the other out.
LARGE_BYTES, SMALL_BYTES = 160_000_000, 64_000_000
# Where there is no room, a newcomer gets that of whoever has taken longer than this to send.
SLOW_SECONDS = 1.0


class Body:
    """One body: `size` bytes are counted for it, among the large ones or the small ones."""

    def __init__(self) -> None:
        self.size, self.large = 0, False
        self.began = asyncio.get_running_loop().time()
        self.evicted = False
        self._task = asyncio.current_task()

    def evict(self) -> None:
        """Ends the reading of it."""
        self.evicted = True
        if self._task is not None:
            self._task.cancel()

    def is_evicted(self) -> bool:
        """Whether that is why the task was cancelled: then it goes on, to say so."""
        if self.evicted and self._task is not None:
            self._task.uncancel()
        return self.evicted


class Bodies:
    """Lets as many bodies in as there is room for, and those who send slowly make room for others."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = {True: 0, False: 0}
        self._arriving: dict[Body, None] = {}

    @contextmanager
    def room(self, announced: int | None) -> Iterator[Body]:
        """Room for one body of `announced` bytes (None: it does not say), until its request is answered.

        Raises:
            RequestError: 413, it is too large; 503, there is no room.
        """
        if announced is not None and announced > self._limit:
            raise too_large(self._limit)
        body = Body()
        try:
            if announced is not None and announced > LARGE:
                self.resize(body, announced)
            yield body
        finally:
            self._release(body)

    async def read(self, body: Body, stream: AsyncIterator[bytes]) -> bytes:
        """All of `stream`. Raises RequestError: 413, it is too large; 503, others needed the room."""
        self._arriving[body] = None
        parts, length = [], 0
        try:
            async for part in stream:
                length += len(part)
                if length > self._limit:
                    raise too_large(self._limit)
                if length > body.size:
                    # Beyond LARGE it did not say how much will come: it may be all that is allowed.
                    self.resize(body, length if length <= LARGE else self._limit)
                parts.append(part)
        except asyncio.CancelledError:
            if not body.is_evicted():
                raise
            raise busy() from None
        finally:
            self._arriving.pop(body, None)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def resize(self, body: Body, size: int) -> None:
        """It takes `size` bytes, or is about to. Raises RequestError 503."""
        self._release(body)
        large = size > LARGE
        while self._held[large] + size > (LARGE_BYTES if large else SMALL_BYTES):
            self._make_room(large)
        self._held[large] += size
        body.size, body.large = size, large

    def _release(self, body: Body) -> None:
        self._held[body.large] -= body.size
        body.size = 0

    def _make_room(self, large: bool) -> None:
        slow_since = asyncio.get_running_loop().time() - SLOW_SECONDS
        slow = (body for body in self._arriving if body.large is large and body.size and body.began < slow_since)
        if (body := next(slow, None)) is None:
            raise busy()
        del self._arriving[body]
        self._release(body)
        body.evict()


def too_large(limit: int) -> RequestError:
    """The answer to a body of more than `limit` bytes."""
    return RequestError(413, f"the request is too large: send at most {limit / 1e6:g} MB", "request_entity_too_large")
