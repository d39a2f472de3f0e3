"""The parent's side of the fetching processes: starts them, deals rows out, hears what became of them."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from components.fetch.rows import Row
from components.fetch.settings import Limits, ShardSettings
from components.shared.errors import Stopped, TransientError

# Rows that one process has at hand: enough to keep its connections busy while one host pauses.
_WINDOW = 256
# Processes that may end one after the other without finishing a single object ...
_DEATHS = 5
# ... and images in a row that may each crash one: a collection can hold a few, a machine without memory has no end.
_CRASHES = 50
# Seconds between two looks at the progress, which prints when a line is due.
_TICK = 1.0


@dataclass(frozen=True)
class Job:
    """What every process needs to know. `uri` is the folder of uploaded parts, empty if there is none."""

    settings: ShardSettings
    limits: Limits
    folder: str
    uri: str
    processes: int


def run(
    job: Job,
    rows: Iterator[Row],
    count: int,
    heard: Callable[[dict], None],
    crashed: Callable[[Row], None],
    tick: Callable[[], None],
) -> None:
    """Fetches `rows` (there are `count`) in `job.processes` processes.

    Args:
        heard: Gets each object's result.
        crashed: Gets each row that ended its process.
        tick: Called every second, whether anything happens or not.

    Raises:
        OSError: a process could not write (errno ENOSPC: the disk is full).
        TransientError: processes die again and again; as Stopped, SIGTERM came.
    """
    try:
        asyncio.run(_run(job, rows, count, heard, crashed, tick))
    except asyncio.CancelledError:
        raise Stopped("stopped by SIGTERM; what was fetched is kept: start the step again to continue") from None


async def _run(job, rows, count, heard, crashed, tick) -> None:
    window = max(8, min(_WINDOW, count // (4 * job.processes)))
    task = asyncio.current_task()
    assert task is not None
    with contextlib.suppress(ValueError, RuntimeError):  # only a main thread hears signals
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        async with asyncio.TaskGroup() as group:
            ticking = asyncio.ensure_future(_tick(tick))
            for _ in range(job.processes):
                group.create_task(_Process(job, rows, heard, crashed).run(window))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    finally:
        ticking.cancel()


async def _tick(tick: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(_TICK)
        tick()


class _Process:
    """One process, and its successors if it dies."""

    def __init__(self, job: Job, rows: Iterator[Row], heard, crashed) -> None:
        self._job, self._rows, self._heard, self._crashed = job, rows, heard, crashed
        self._outstanding: dict[int, Row] = {}
        self._deaths = self._crashes = 0  # since the last object that was finished

    async def run(self, window: int) -> None:
        while await self._serve(self._rows, window):
            # A decoder may have crashed on one of these rows: one at a time, so that the culprit is known.
            suspects = list(self._outstanding.values())
            self._outstanding.clear()
            remaining = iter(suspects)
            while status := await self._serve(remaining, 1):
                for row in self._outstanding.values():
                    self._crashed(row)
                self._outstanding.clear()
                if status < 0:  # a signal: the culprit is found. Anything else is a process that cannot work at all.
                    self._deaths, self._crashes = 0, self._crashes + 1

    async def _serve(self, rows: Iterator[Row], window: int) -> int:
        """Deals `rows` to a new process until they end; returns its exit status."""
        first = next(rows, None)
        if first is None:
            return 0
        # A process group of its own: Ctrl-C is the parent's to hear, which lets the process end in good order.
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "components.fetch.worker",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=_environment(), process_group=0,
        )  # fmt: skip
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(asdict(self._job)).encode() + b"\n")
            self._deal(process, first)
            await self._converse(process, rows, window)
        finally:
            # Also when this task is cancelled: the end of stdin tells the process to keep what it has and go.
            process.stdin.close()
            status = await process.wait()
        if status:
            self._count_death(status)
        return status

    def _count_death(self, status: int) -> None:
        self._deaths += 1
        print(f"warning: a fetch process ended with status {status}; another takes over", file=sys.stderr, flush=True)
        if self._deaths > _DEATHS or self._crashes >= _CRASHES:
            raise TransientError(f"fetch processes end with status {status} (-9: out of memory?): start the step again")

    async def _converse(self, process, rows: Iterator[Row], window: int) -> None:
        ended = False
        while True:
            while not ended and len(self._outstanding) < window:
                row = next(rows, None)
                ended = row is None
                self._deal(process, row)
            line = await process.stdout.readline()
            if not line:
                return
            message = json.loads(line)
            if "error" in message:
                raise OSError(message["errno"], message["error"], message["file"])
            self._outstanding.pop(message["row"])
            self._deaths = self._crashes = 0
            self._heard(message)

    def _deal(self, process, row: Row | None) -> None:
        if row is None:
            process.stdin.write(b"end\n")
            return
        self._outstanding[row.ordinal] = row
        process.stdin.write(f"{row.ordinal} {row.key} {row.text}\n".encode())


def _environment() -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    # One arena a thread would keep freed images; numpy is used here for views only.
    return {**os.environ, "PYTHONPATH": path, "MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1"}
