"""Worker processes: forked, replaced when they end, and told to stop."""

import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable

_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
_PARENT_DEATH = 1  # PR_SET_PDEATHSIG of prctl(2)
# A worker that ends sooner is not replaced at once: it would only end again.
SOON_SECONDS = 1.0


class Workers:
    """Keeps `number` processes that run `work(slot)`, each in one of the slots 0 to `number` - 1.

    `ended(slot, pid)` is called when one is gone. `work` returns when its process got SIGTERM and has done its work;
    the processes start with the memory of this one.
    """

    def __init__(self, number: int, work: Callable[[int], None], ended: Callable[[int, int], None]) -> None:
        self._number, self._work, self._ended = number, work, ended
        self._running: dict[int, tuple[int, float]] = {}

    def run(self, stop: Callable[[], None], seconds: float) -> None:
        """Returns after SIGTERM or SIGINT, when all have ended, or were killed because they took over `seconds`.

        `stop()` is called first when it comes. Raises SystemExit with a worker's own status if it cannot start.
        """
        # For good: whoever is impatient and sends another one must not end this process before the others.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        status = 0
        for slot in range(self._number):
            self._start(slot)
        while not status and signal.sigwait(_SIGNALS) == signal.SIGCHLD:
            status = self._replace()
        stop()
        self._end(seconds)
        if status:
            raise SystemExit(status)

    def _replace(self) -> int:
        """Starts one for each that has ended; the status of one that could not start, else 0."""
        for slot, status, seconds in self._reap():
            if status == os.EX_CONFIG:
                return 1
            if seconds < SOON_SECONDS:
                time.sleep(SOON_SECONDS)
            self._start(slot)
        return 0

    def _end(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        self._tell(signal.SIGTERM)
        self._reap()
        while self._running and (left := deadline - time.monotonic()) > 0:
            signal.sigtimedwait({signal.SIGCHLD}, left)
            self._reap()
        self._tell(signal.SIGKILL)

    def _tell(self, number: int) -> None:
        for pid in self._running:
            os.kill(pid, number)

    def _reap(self) -> list[tuple[int, int, float]]:
        """(slot, exit status, seconds it lived) of those that have ended."""
        gone = []
        for pid, (slot, started) in list(self._running.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                del self._running[pid]
                self._ended(slot, pid)
                gone.append((slot, os.waitstatus_to_exitcode(status), time.monotonic() - started))
        return gone

    def _start(self, slot: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        if pid := os.fork():
            self._running[pid] = (slot, time.monotonic())
            return
        status = 1
        try:
            _die_with(parent)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: sys.exit(0))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            self._work(slot)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            # Not by way of what the first process cleans up at its end, nor waiting for threads that fetch a URL.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


def _die_with(parent: int) -> None:
    """Has this process end when its parent is killed: nobody would tell it to."""
    try:
        ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGTERM)
    except (OSError, AttributeError):
        return  # macOS
    if os.getppid() != parent:
        sys.exit(0)
