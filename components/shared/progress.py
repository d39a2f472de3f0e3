"""Progress of long work as log lines: one per minute in a pod, as often as the local run asks for on a laptop."""

import os
import time

# `pipeline.py run` sets this to redraw its bars; in a pod's log a line per minute is enough.
INTERVAL_VARIABLE = "PROGRESS_SECONDS"


class Progress:
    """Prints `progress: 120/600 images, 84/s` at most every PROGRESS_SECONDS seconds, and once at the end.

    Where nothing may happen for long, `update(0)` now and then keeps the lines coming.
    """

    def __init__(self, total: int, unit: str) -> None:
        self.total, self.unit = total, unit
        self.done = 0
        self._interval = float(os.environ.get(INTERVAL_VARIABLE, 60))
        self._started = self._printed = time.monotonic()

    def update(self, amount: int = 1, note: str = "") -> None:
        """Counts `amount` more units; `note` (`loss 0.31`) is appended to the line."""
        ends = self.done < self.total <= self.done + amount
        self.done += amount
        now = time.monotonic()
        if not ends and now - self._printed < self._interval:
            return
        self._printed = now
        rate = self.done / max(now - self._started, 1e-9)
        suffix = f", {note}" if note else ""
        print(f"progress: {self.done}/{self.total} {self.unit}, {rate:.3g}/s{suffix}", flush=True)
