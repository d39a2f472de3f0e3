"""SIGTERM as a request: finish the step, write a checkpoint, leave."""

import signal
import threading
from types import FrameType
from typing import Any


class Preempted(Exception):
    """Training was asked to stop (SIGTERM), and what it had done is saved: start it again to continue."""


class StopRequest:
    """Whether SIGTERM came while this context was active; `requested` turns True and stays so."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: Any = None

    def __enter__(self) -> "StopRequest":
        self._previous = self.listen()
        return self

    def listen(self) -> Any:
        """Takes SIGTERM, again if need be: TensorFlow's cluster runtime puts its own handler in place of any other.

        Python handles signals in the main thread only; in another one the caller decides.
        """
        if threading.current_thread() is threading.main_thread():
            return signal.signal(signal.SIGTERM, self._note)
        return None

    def check(self, doing: str) -> None:
        """Raises Preempted if SIGTERM came; for work with nothing to save, such as `doing` "copying record files"."""
        if self.requested:
            raise Preempted(f"stopped while {doing}; nothing is lost")

    def __exit__(self, *_: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
