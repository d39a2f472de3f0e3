"""The pace at which one host is asked: rate and connections, cut by a 429 and raised again by success."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

from components.fetch.failure import Failure
from components.fetch.settings import Limits

# Bursts of this many seconds' worth of requests make up for sleeps that ended late.
_BURST = 0.1
_SLOWEST = 0.05


class Host:
    """One host as one process sees it. All times are the event loop's.

    Rate and connections follow TCP's rule: halved when the host says 429, raised step by step when it stops. A host
    that gives no sign of life is probed by one request at a time, with growing pauses, and given up after
    `Limits.host_patience`: its objects then fail at once instead of timing out one by one.
    """

    def __init__(self, name: str, rate: float, connections: int, limits: Limits) -> None:
        """`rate` in requests per second (0: no limit) and `connections` are this process's share."""
        self._name, self._limits = name, limits
        self._top_rate = self._rate = rate
        self._top_connections = connections
        self._connections = min(connections, 8)
        self._active = 0
        self._next = self._paused_until = self._changed_at = self._silent_since = 0.0
        self._silent = 0
        self._refused = False
        self._refused_since = 0.0  # time of the first refusal since the last success
        self._turned_away = 0  # times in a row
        self._down: tuple[str, str] | None = None  # reason and message for which it was given up
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @property
    def idle(self) -> bool:
        """No request is running or waiting."""
        return not self._active and not self._turn.locked()

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Waits for the host's turn. Raises Failure (host_down, challenged, login) if it was given up."""
        async with self._turn:
            await self._wait()
            self._active += 1
        try:
            yield
        finally:
            self._active -= 1
            self._freed.set()

    def failed(self) -> None:
        """The host answers, but is in trouble (5xx): no reason to ask it more."""
        self._silent = 0

    def answered(self) -> None:
        """The host answered as it should: it is alive, and may get a little more."""
        self._silent, self._refused_since, self._turned_away = 0, 0.0, 0
        now = asyncio.get_running_loop().time()
        # Until the first refusal connections are added quickly; afterwards a step at a time, together with the rate.
        if self._refused and now - self._changed_at < self._limits.recovery:
            return
        if self._refused:
            self._changed_at = now
            self._rate = min(self._top_rate, self._rate + self._top_rate / 16)
        if self._connections < self._top_connections:
            self._connections += 1
            self._freed.set()

    def refused(self, retry_after: float) -> None:
        """The host said 429: it gets half, and nothing before `retry_after` seconds have passed."""
        self._silent = 0
        now = asyncio.get_running_loop().time()
        self._paused_until = max(self._paused_until, now + retry_after)
        self._refused_since = self._refused_since or now
        if retry_after > self._limits.max_pause:
            self._give_up(f"the host asks to come back in {retry_after:.0f} s")
        elif now - self._refused_since > self._limits.patience:
            self._give_up(f"{self._name} has refused every request for {now - self._refused_since:.0f} s")
        # Requests that were under way together are refused together: that is one sign, not twenty.
        if self._refused and now - self._changed_at < self._limits.recovery / 2:
            return
        self._refused, self._changed_at = True, now
        self._connections = max(1, self._connections // 2)
        # A host without a rate limit gets one now, from a guess of what a connection carried.
        self._top_rate = self._top_rate or 16.0 * self._top_connections
        self._rate = max(_SLOWEST, (self._rate or self._top_rate) / 2)

    def silent(self) -> None:
        """The host could not be reached, or said nothing in time."""
        now = asyncio.get_running_loop().time()
        self._silent_since = now if not self._silent else self._silent_since
        self._silent += 1
        beyond = self._silent - self._limits.host_failures
        if beyond < 0:
            return
        if not beyond:
            patience = f"trying for {self._limits.host_patience:g} s"
            print(f"warning: {self._name} does not answer; {patience}", file=sys.stderr, flush=True)
        self._connections = 1
        self._paused_until = now + min(self._limits.max_backoff, self._limits.backoff * 2 ** min(beyond, 10))
        self._freed.set()
        if now - self._silent_since > self._limits.host_patience:
            self._give_up(f"{self._name} did not answer for {self._limits.host_patience:g} s and was given up")

    def turned_away(self, reason: str, message: str) -> None:
        """The host wants a person, or one that it knows, and says so again and again: then it is left alone."""
        self._silent = 0
        self._turned_away += 1
        if self._turned_away >= self._limits.turned_away:
            self._give_up(message, reason)

    def crawl_delay(self, seconds: float) -> bool:
        """robots.txt asks for so many seconds between requests of this process; returns whether that is slower."""
        asked = 1.0 / max(seconds, 1e-3)
        if self._rate and self._rate <= asked:
            return False
        self._top_rate = self._rate = asked
        return True

    def _give_up(self, why: str, reason: str = "host_down") -> None:
        """Nothing more is asked of it in this run."""
        self._paused_until, self._down = 0.0, (reason, why)
        self._freed.set()

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if self._down:
                raise Failure(*self._down)
            pause = max(self._next, self._paused_until) - loop.time()
            if pause > 0:
                await asyncio.sleep(pause)
            elif self._active >= self._connections:
                self._freed.clear()
                await self._freed.wait()
            else:
                break
        if self._rate:
            self._next = max(self._next, loop.time() - _BURST) + 1.0 / self._rate
