"""Which worker takes a new connection: the one that holds the fewest."""

import mmap

import numpy as np

NOBODY = np.iinfo(np.int32).max


class Balance:
    """The connections that each worker holds, in memory that the workers share because they are forked after it.

    All workers wait at one socket, and whichever wakes first would take all that is there: eight connections that
    come at once were held by one worker of two every few times, and the other core was idle for as long as they lived.
    """

    def __init__(self, slots: int) -> None:
        self._held = np.frombuffer(mmap.mmap(-1, 4 * slots), np.int32)
        self._held[:] = NOBODY

    def note(self, slot: int, connections: int) -> None:
        """The worker in `slot` holds so many, and takes more."""
        self._held[slot] = connections

    def leave(self, slot: int) -> None:
        """The worker in `slot` takes no more: it is full, stops, or is dead."""
        self._held[slot] = NOBODY

    def lighter(self, slot: int) -> bool:
        """Whether a worker that takes connections holds fewer than the one in `slot`."""
        return bool(self._held.min() < self._held[slot])
