"""How much memory a process and all that it starts take together."""

import contextlib
import threading

import psutil


class PeakMemory:
    """Samples the resident bytes of a process tree until it ends; `peak` is the largest sum of one moment.

    Pages that several processes share count once for each: the sum is an upper bound.
    """

    def __init__(self, pid: int, seconds: float = 0.2) -> None:
        self.peak = 0
        self._process, self._seconds = psutil.Process(pid), seconds
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def join(self) -> int:
        """Waits for the process's end; returns the peak in bytes."""
        self._thread.join()
        return self.peak

    def _watch(self) -> None:
        stopped = threading.Event()
        while not stopped.wait(self._seconds):
            try:
                processes = [self._process, *self._process.children(recursive=True)]
                if self._process.status() == psutil.STATUS_ZOMBIE:
                    return
            except psutil.NoSuchProcess:
                return
            total = 0
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    total += process.memory_info().rss
            self.peak = max(self.peak, total)
