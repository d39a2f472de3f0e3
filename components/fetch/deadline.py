"""Time allowed to one object: it runs while a request is under way and stands still while the object waits its turn."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator


class Deadline:
    """`seconds` in all, over every attempt. Not for use by two tasks at a time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = self.left = seconds
        self._timeout: asyncio.Timeout | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Counts the time of the block. Raises TimeoutError as soon as none is left."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.left) as timeout:
                self._timeout = timeout
                yield
        finally:
            self.left = (timeout.when() or 0.0) - loop.time()
            self._timeout = None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stops the time for the block."""
        timeout = self._timeout
        if timeout is None:
            yield
            return
        loop = asyncio.get_running_loop()
        left = (timeout.when() or 0.0) - loop.time()
        timeout.reschedule(None)
        try:
            yield
        finally:
            timeout.reschedule(loop.time() + left)
