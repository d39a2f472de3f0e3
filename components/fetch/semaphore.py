"""Large images are decoded in turn, so that a shard needs memory for a few of them, not for one in every process."""

import contextlib
import fcntl
import os
import random
import tempfile
from pathlib import Path

from components.shared.cores import CGROUP

# Memory of the machine or container for each image that may be decoded whole at a time: one takes up to 650 MB.
BYTES_PER_HOLDER = 2 << 30


class SharedSemaphore:
    """A lock that `turns` threads hold at a time, over all processes of this user on this machine or in this pod."""

    def __init__(self, turns: int = 0, folder: str = "") -> None:
        """`turns` 0: as many as memory allows, at least one. The locks are files in `folder`, by default /tmp."""
        self._turns = turns or max(1, available_memory() // BYTES_PER_HOLDER)
        self._name = os.path.join(folder or tempfile.gettempdir(), f"museum-classifier-{os.getuid()}-large-")
        self._held = -1

    def __enter__(self) -> None:
        for turn in range(self._turns):
            if self._take(turn, fcntl.LOCK_EX | fcntl.LOCK_NB):
                return
        self._take(random.randrange(self._turns), fcntl.LOCK_EX)

    def __exit__(self, *exception: object) -> None:
        if self._held >= 0:
            os.close(self._held)  # which unlocks; so does the death of this process
        self._held = -1

    def _take(self, turn: int, how: int) -> bool:
        try:
            file = os.open(f"{self._name}{turn}", os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:  # somebody else's file: better without a turn than not at all
            return True
        try:
            fcntl.flock(file, how)
        except BlockingIOError:
            os.close(file)
            return False
        self._held = file
        return True


def available_memory() -> int:
    """Bytes that this container, or else this machine, has."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # cgroup v2, v1
        with contextlib.suppress(OSError, ValueError):  # no such file, or `max`
            return min(total, int(Path(CGROUP, name).read_text(encoding="ascii")))
    return total
