"""What is done when a worker is lost: all restart from the last checkpoint, a limited number of times."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from components.shared.errors import PipelineError, Stopped

TAIL_LINES = 20
_PREFIX = "error: "


@dataclass(frozen=True)
class Failure:
    """A worker that did not finish: its name, what happened to it, the last lines that it printed.

    `is_preemption`: the cluster wanted its room, or took its node away; that is nobody's fault.
    """

    worker: str
    cause: str
    status: int | None = None
    lines: tuple[str, ...] = ()
    is_preemption: bool = False

    @property
    def user_error(self) -> str | None:
        """The message of a mistake that a restart would meet again; None if a restart can help."""
        last = next((line for line in reversed(self.lines) if line.strip()), "")
        if self.status == 1 and last.startswith(_PREFIX):
            return last.removeprefix(_PREFIX)
        return None

    def __str__(self) -> str:
        return f"{self.worker} {self.cause}"


def describe_status(status: int) -> str:
    """What the exit status of a process or container means; a negative one is a signal."""
    number = -status if status < 0 else status - 128 if status > 128 else 0
    if number == signal.SIGKILL:
        return "was killed (signal 9; often out of memory: try a smaller batch_size or image_size)"
    if number:
        return f"was killed by signal {number}"
    return "was preempted" if status == os.EX_TEMPFAIL else f"failed with exit status {status}"


def run_with_restarts(
    attempt: Callable[[int], Failure | None], max_restarts: int, first: int = 0, name: str = ""
) -> int:  # fmt: skip
    """Calls `attempt` with the generation number, from `first` on, until it returns no failure; returns the restarts.

    A preemption is none of them: it may happen any number of times. A retried step may find generations of its earlier
    try; it gets `max_restarts` of its own.

    Raises:
        PipelineError: a worker met a mistake of the user, or workers were lost more than `max_restarts` times.
    """
    restarts = preemptions = 0
    while failure := attempt(first + restarts + preemptions):
        if failure.user_error:
            raise PipelineError(failure.user_error)
        announced = "; its last lines:" if failure.lines else ""
        print(f"{name}{failure}{announced}", *failure.lines, sep="\n    ", flush=True)
        if failure.is_preemption:
            preemptions += 1
            print(f"{name}preempted: all workers go on from the last checkpoint", flush=True)
            continue
        if restarts == max_restarts:
            last = next((line for line in reversed(failure.lines) if line.strip()), "it printed nothing")
            raise PipelineError(
                f"{failure} and max_restarts={max_restarts} is used up; its last line: {last.strip()!r} "
                "(more above); start the step again to continue from the last checkpoint"
            )
        restarts += 1
        print(f"{name}restart {restarts} of {max_restarts}: all workers, from the last checkpoint", flush=True)
    return restarts


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM (the run is terminated, the node drained) raises Stopped, so that workers are stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Stopped("training was told to stop; start the step again to continue from the last checkpoint")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
