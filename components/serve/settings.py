"""What a server can be told, with its defaults."""

import os
from dataclasses import dataclass

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class ServerSettings:
    """One server; sizes in bytes, times in seconds.

    Attributes:
        model: folder or URI of the classifier.
        name: name of the model in the V1 and V2 protocols.
        workers: processes, each with one single-threaded engine; 0 for one a core.
        queue: requests that may wait or run in one worker; further ones are answered 503.
        sha256: digest that the model must have (components.shared.classifier.digest); empty for any.
        read_seconds: how long a client may take to send its request.
        allow_urls: whether POST /classify fetches `{"url": ...}`.
        allow_private_urls: also from private networks; off, since anybody could read what only the server may.
    """

    model: str
    name: str = "museum-classifier"
    engine: str = "litert"
    host: str = "0.0.0.0"
    port: int = 8080
    workers: int = 0
    queue: int = 64
    sha256: str = ""
    max_upload: int = 10 * MEGABYTE
    read_seconds: float = 15.0
    wait_seconds: float = 20.0
    grace_seconds: float = 25.0
    allow_urls: bool = True
    allow_private_urls: bool = False


def available_cores() -> int:
    """Cores that this process may use: affinity and the container's CPU limit, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, round(int(quota) / int(period))))
