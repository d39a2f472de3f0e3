"""New connections: each worker takes its share."""

import asyncio
import mmap
import socket
from collections.abc import Callable
from contextlib import suppress

import numpy as np

# How long a worker leaves a new connection to another one that holds fewer.
ACCEPT_SECONDS = 0.002
# How long it waits when it cannot take one, because it has no file descriptors left.
FULL_SECONDS = 0.5
_NOBODY = np.iinfo(np.int32).max


class Balance:
    """The connections that each worker holds, in memory that the workers share because they are forked after it.

    All workers wait at one socket, and whichever wakes first would take all that is there: eight connections that
    come at once were held by one worker of two every few times, and the other core was idle for as long as they lived.
    """

    def __init__(self, slots: int) -> None:
        self._held = np.frombuffer(mmap.mmap(-1, 4 * slots), np.int32)
        self._held[:] = _NOBODY

    def note(self, slot: int, connections: int) -> None:
        """The worker in `slot` holds so many, and takes more."""
        self._held[slot] = connections

    def leave(self, slot: int) -> None:
        """The worker in `slot` takes no more: it stops, or is dead."""
        self._held[slot] = _NOBODY

    def lighter(self, slot: int) -> bool:
        """Whether a worker that takes connections holds fewer than the one in `slot`."""
        return bool(self._held.min() < self._held[slot])


class Acceptor:
    """Takes the connections of one worker from `listener`, one at a time, and makes a `protocol()` for each."""

    def __init__(
        self, listener: socket.socket, protocol: Callable[[], asyncio.Protocol], balance: Balance, slot: int
    ) -> None:
        self._listener, self._protocol, self._balance, self._slot = listener, protocol, balance, slot
        self._loop = asyncio.get_running_loop()
        self._held, self._stopped = 0, False
        self._tasks: set[asyncio.Task] = set()

    def start(self) -> None:
        """Begins, or goes on, to take connections."""
        if not self._stopped:
            self._balance.note(self._slot, self._held)
            self._loop.add_reader(self._listener, self._ready)

    def lost(self) -> None:
        """A connection is over."""
        self._held -= 1
        if not self._stopped:
            self._balance.note(self._slot, self._held)

    async def stop(self) -> None:
        """Takes those that wait in the queue of the socket, and no more: newcomers are refused and go elsewhere."""
        self._loop.remove_reader(self._listener)
        while self._accept() or self._tasks:
            await asyncio.sleep(0)
        self._stopped = True
        self._balance.leave(self._slot)
        self._listener.close()

    def _ready(self) -> None:
        if self._balance.lighter(self._slot):
            self._pause(ACCEPT_SECONDS)
        else:
            self._accept()

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        if not self._stopped:
            self._accept()
            self.start()

    def _accept(self) -> bool:
        """Whether there was one."""
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError:
            self._pause(FULL_SECONDS)
            return False
        connection.setblocking(False)
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._held += 1
        self._balance.note(self._slot, self._held)
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True
