"""How many CPU cores this process may use."""

import math
import os
from pathlib import Path

# A container sees its own limits here; cgroup v2 first, then v1.
CGROUP = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """Cores by affinity and by the container's CPU limit, rounded up; at least 1.

    A node of 64 cores shows all of them to a container that is limited to 2.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _quota())))


def _quota() -> float:
    """The container's limit in cores; infinite where there is none."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((CGROUP / name).read_text(encoding="ascii") for name in files).split()
            return int(quota) / int(period) if int(quota) > 0 else math.inf
        except (OSError, ValueError, ZeroDivisionError):  # no such file, or `max`
            continue
    return math.inf
