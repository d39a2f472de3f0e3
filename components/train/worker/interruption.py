"""SIGTERM as a request: finish the step, write a checkpoint, leave."""

import signal
import threading


class Preempted(Exception):
    """Training was asked to stop (SIGTERM), and what it had done is saved: start it again to continue."""


class StopRequest:
    """Whether SIGTERM came while this context was active; `requested` turns True and stays so.

    A thread of its own waits for the signal, which is blocked in the main thread and in all that begin in this context:
    enter it before numpy and TensorFlow begin theirs. A handler would not do: Python runs it between two instructions
    of the main thread, which may wait in TensorFlow for minutes, and TensorFlow's cluster runtime puts its own in place
    of any other. Outside the main thread the caller decides.
    """

    def __init__(self) -> None:
        self.requested = False
        self._over = False
        self._before: set[int | signal.Signals] | None = None
        self._thread = threading.Thread(target=self._listen, name="sigterm", daemon=True)

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None and self._thread.ident is not None:
            self._over = True
            signal.pthread_kill(self._thread.ident, signal.SIGTERM)
            self._thread.join()
            signal.pthread_sigmask(signal.SIG_SETMASK, self._before)

    def check(self, doing: str) -> None:
        """Raises Preempted if SIGTERM came; for work with nothing to save, such as `doing` "copying record files"."""
        if self.requested:
            raise Preempted(f"stopped while {doing}; nothing is lost")

    def _listen(self) -> None:
        while not self._over:
            signal.sigwait({signal.SIGTERM})
            self.requested |= not self._over
