"""What a host asks of machines: robots.txt, and the headers that keep a picture out of machine learning."""

import asyncio
import re
from typing import Awaitable, Callable

from multidict import MultiMapping
from protego import Protego

from components.fetch.failure import Failure, Retry
from components.fetch.settings import AGENT

MAX_BYTES = 500 << 10  # RFC 9309: a crawler reads at least this much
_NO_AI = frozenset({"noai", "noimageai"})
# `agent: directives`; these are directives with a value, not agents.
_NAMED = re.compile(r"\s*([\w*-]+)\s*:(.*)")
_VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})


class Robots:
    """robots.txt of every host met, each read once (RFC 9309)."""

    def __init__(
        self, read: Callable[[str], Awaitable[bytes]], on_delay: Callable[[str, float], None], max_delay: float
    ) -> None:
        """`read(url)` gets a text or raises Failure; `on_delay(origin, seconds)` hears of a crawl delay.

        A host that asks for more than `max_delay` seconds between requests is left alone.
        """
        self._read, self._on_delay, self._max_delay = read, on_delay, max_delay
        self._rules: dict[str, asyncio.Task] = {}

    async def check(self, origin: str, url: str) -> None:
        """Raises Failure(robots) where `origin` (scheme://host:port) does not want `url` to be fetched."""
        if origin not in self._rules:
            self._rules[origin] = asyncio.ensure_future(self._load(origin))
        # Shielded: the object whose deadline passes first must not take the rules from the others.
        rules = await asyncio.shield(self._rules[origin])
        if rules is not None and not rules.can_fetch(url, AGENT):
            raise Failure("robots", f"{origin}/robots.txt does not allow it")

    async def _load(self, origin: str) -> Protego | None:
        try:
            text = await self._read(f"{origin}/robots.txt")
        except Failure as failure:
            # 4xx says that there are no rules; 5xx says nothing, so nothing may be fetched.
            if 400 <= failure.http_status < 500 and failure.http_status != 429:
                return None
            failure.retry = Retry.NEVER
            if failure.http_status:
                failure.reason = "robots_unavailable"
            raise
        rules = Protego.parse(text[:MAX_BYTES].decode("utf-8", "replace"))
        delay = float(rules.crawl_delay(AGENT) or 0)
        if delay > self._max_delay:
            raise Failure("robots", f"{origin}/robots.txt asks for {delay:g} s between requests (Crawl-delay)")
        if delay:
            self._on_delay(origin, delay)
        return rules


def check_headers(headers: MultiMapping[str]) -> None:
    """Raises Failure(noai) if X-Robots-Tag (`noai`, `noimageai`) or TDM-Reservation keeps the picture back."""
    for value in headers.getall("X-Robots-Tag", []):
        named = _NAMED.match(value)
        agent, directives = (named[1], named[2]) if named and named[1].lower() not in _VALUED else (AGENT, value)
        if agent.lower() in (AGENT, "*") and _NO_AI & {word.strip().lower() for word in directives.split(",")}:
            raise Failure("noai", f"X-Robots-Tag: {value}", http_status=200)
    if headers.get("TDM-Reservation", "").strip() == "1":
        raise Failure("noai", "TDM-Reservation: 1", http_status=200)
