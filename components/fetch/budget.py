"""A bound on the bytes that one process holds, whatever the sizes of the images."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator

from components.fetch.deadline import Deadline

# What a body of unknown length is granted at first.
FIRST_BYTES = 128 << 10


class Claim:
    """One body's share, granted whole before the first byte is read, so that no two can wait for each other."""

    def __init__(self, budget: "Budget", deadline: Deadline) -> None:
        self._budget, self._deadline = budget, deadline
        self._granted = 0

    async def expect(self, size: int | None) -> None:
        """Waits until `size` bytes may be held; None if the size is not known."""
        self.close()
        await self._grant(FIRST_BYTES if size is None else size)

    async def grow(self, size: int, limit: int) -> None:
        """`size` bytes are held: a body that turns out to be larger than expected is granted all it may become."""
        if size > self._granted:
            self.close()
            await self._grant(limit)

    async def _grant(self, size: int) -> None:
        with self._deadline.paused():
            await self._budget.acquire(size)
        self._granted = size

    def close(self) -> None:
        """Gives everything back."""
        granted, self._granted = self._granted, 0
        self._budget.release(granted)


class Budget:
    """At most `limit` bytes are granted at a time, first come first served; one claim may exceed it when alone."""

    def __init__(self, limit: int) -> None:
        self._limit, self._used = limit, 0
        self._waiting: deque[tuple[int, asyncio.Future]] = deque()

    @contextlib.asynccontextmanager
    async def claim(self, deadline: Deadline) -> AsyncIterator[Claim]:
        """A claim that is given back at the end of the block; `deadline` stands still while it waits."""
        claim = Claim(self, deadline)
        try:
            yield claim
        finally:
            claim.close()

    async def acquire(self, size: int) -> None:
        """Waits for `size` bytes."""
        if not self._waiting and self._fits(size):
            self._used += size
            return
        entry = (size, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        try:
            await entry[1]
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
            elif entry[1].done() and not entry[1].cancelled():
                self.release(size)
            raise

    def release(self, size: int) -> None:
        """Gives `size` bytes back."""
        self._used -= size
        while self._waiting and (self._waiting[0][1].done() or self._fits(self._waiting[0][0])):
            size, future = self._waiting.popleft()
            if not future.done():
                self._used += size
                future.set_result(None)

    def _fits(self, size: int) -> bool:
        return self._used == 0 or self._used + size <= self._limit
