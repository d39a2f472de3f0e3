"""The processes of a local run: started in a session of their own, and ended whatever happens."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

GRACE_SECONDS = 20
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ProcessGroup:
    """One Python process and all that it starts. A context manager: inside it, the signals that end a run are ours.

    The session of its own means that Ctrl-C reaches only this process, and that one signal to the group reaches every
    step and worker. The first SIGINT, SIGTERM or SIGHUP raises KeyboardInterrupt; each further one kills the group at
    once and raises nothing, so that what is being written down is written to its end.
    """

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None
        self._ending = False
        self._starting = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "ProcessGroup":
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup: the run outlives its terminal
                self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], inherited: Sequence[int]
    ) -> subprocess.Popen[str]:
        """Starts `python ARGUMENTS` and returns the process; its `stdout` is its output and errors as text."""
        self._starting = True
        try:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                env=environment,
                start_new_session=True,
                pass_fds=inherited,
            )
        finally:
            self._starting = False
        if self._ending:
            raise KeyboardInterrupt
        return self.process

    def end(self) -> int:
        """Ends what still runs, politely, so that training writes its checkpoint, then for good; returns its status."""
        self._ending = True
        if self.process is None:
            return 1
        if self.process.poll() is None:
            self._send(signal.SIGTERM)
            self._read_on(self.process, time.monotonic() + GRACE_SECONDS)
        self._send(signal.SIGKILL)  # also what outlived its parent
        return self.process.wait()

    @staticmethod
    def _read_on(process: subprocess.Popen, until: float) -> None:
        """Waits for the end of the process and reads what it prints, so that no step dies of a full pipe.

        In turns of a second: Python hears a signal that comes right before it begins to wait only when it is done.
        """
        with contextlib.suppress(ValueError, OSError):
            while time.monotonic() < until:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.communicate(timeout=1)
                    return

    def _received(self, *_: object) -> None:
        if self._ending:
            self._send(signal.SIGKILL)
            return
        self._ending = True
        if not self._starting:  # else nobody would know the new process
            raise KeyboardInterrupt

    def _send(self, number: int) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)
