"""How many requests of a kind a worker takes in a time."""

import time

from components.server.errors import RequestError

AT_ONCE, SECONDS_EACH = 10, 6.0


class Limit:
    """A token bucket: `most` at once, and one more every `seconds`."""

    def __init__(self, most: int = AT_ONCE, seconds: float = SECONDS_EACH) -> None:
        self._most, self._seconds = most, seconds
        self._left, self._at = float(most), time.monotonic()

    def take(self) -> None:
        """Raises RequestError 429: none is left."""
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._at) / self._seconds)
        self._at = now
        if self._left < 1:
            wait = int((1 - self._left) * self._seconds) + 1
            raise RequestError(429, f"too many corrections: try again in {wait} seconds", "too_many", wait)
        self._left -= 1
