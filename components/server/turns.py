"""Turns at something that one thread at a time may use, in the order in which they were asked for."""

import collections
import threading
import time


class Turns:
    """A lock that is handed on in order.

    threading.Lock goes to whoever is awake: a thread that releases it and asks again at once, as one with a batch of
    pictures does, would keep all others waiting.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._waiting: collections.deque[threading.Lock] = collections.deque()

    def take(self, until: float) -> bool:
        """Waits for the turn, at the latest until time.monotonic() is `until`; whether it came."""
        with self._lock:
            if not self._taken:
                self._taken = True
                return True
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        if mine.acquire(timeout=max(0.0, until - time.monotonic())):
            return True
        with self._lock:
            if mine in self._waiting:
                self._waiting.remove(mine)
                return False
        return True  # it came at the very last moment

    def give_back(self) -> None:
        """Ends the turn; the one who has waited longest is next."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False
