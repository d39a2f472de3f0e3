"""Training workers as processes of this machine."""

import ctypes
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from components.shared.errors import PipelineError
from components.train.launcher.restarts import TAIL_LINES, Failure, describe_status

# Seconds between SIGTERM and SIGKILL: to write a checkpoint; to tell an own reason after another worker was lost.
_GRACE_SECONDS = 25
_SURVIVOR_SECONDS = 10
_PR_SET_PDEATHSIG = 1


class LocalWorkers:
    """`count` processes of `python -m components.train.worker` with `arguments`; the first is the chief.

    The chief's log is shown."""

    def __init__(
        self, arguments: list[str], count: int, gpus: int = 0, prefix: str = "", log: TextIO | None = None
    ) -> None:  # fmt: skip
        self._arguments, self._count, self._prefix, self._log = arguments, count, prefix, log
        self._devices = _devices(count, gpus)
        self._processes: list[subprocess.Popen] = []
        self._threads: list[threading.Thread] = []
        self._tails: list[deque[str]] = [deque(maxlen=TAIL_LINES) for _ in range(count)]
        self._exits: queue.SimpleQueue[int] = queue.SimpleQueue()

    def run(self) -> Failure | None:
        """Starts all workers and waits for them; returns the first failure, after which none is left running."""
        try:
            for index, config in enumerate(_cluster(self._count)):
                self._processes.append(self._start(index, config))
                self._threads.append(threading.Thread(target=self._watch, args=(index,), daemon=True))
                self._threads[-1].start()
            return self._wait()
        finally:
            self._stop(_GRACE_SECONDS)

    def _start(self, index: int, config: str | None) -> subprocess.Popen:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        environment.pop("TF_CONFIG", None)
        if config:
            environment["TF_CONFIG"] = config
        if self._devices:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(self._devices[index])
        return subprocess.Popen(
            [sys.executable, "-m", "components.train.worker", *self._arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # A session of their own, so that Ctrl-C reaches them once, through this process, as SIGTERM.
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )

    def _watch(self, index: int) -> None:
        process = self._processes[index]
        assert process.stdout is not None
        try:
            with process.stdout as lines:
                for line in lines:
                    self._tails[index].append(line.rstrip())
                    if index == 0:
                        print(self._prefix + line, end="", file=self._log, flush=True)
        finally:
            process.wait()
            self._exits.put(index)

    def _wait(self) -> Failure | None:
        for _ in self._processes:
            if first := self._failure(self._exits.get()):
                # The first to end need not be the one with the reason: others may be about to tell it.
                self._stop(_SURVIVOR_SECONDS)
                failures = [self._failure(index) for index in range(self._count)]
                return next((failure for failure in failures if failure and failure.user_error), first)
        return None

    def _failure(self, index: int) -> Failure | None:
        status = self._processes[index].returncode
        if status == 0:
            return None
        return Failure(f"worker {index}", describe_status(status), status, tuple(self._tails[index]))

    def _stop(self, grace: float) -> None:
        running = [process for process in self._processes if process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        until = time.monotonic() + grace
        for process in running:
            try:
                process.wait(max(0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for thread in self._threads:
            thread.join()


def _cluster(count: int) -> list[str | None]:
    """TF_CONFIG of each of `count` workers on free ports; None for a single one, which needs no cluster."""
    if count == 1:
        return [None]
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for entry in sockets:
            entry.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{entry.getsockname()[1]}" for entry in sockets]
    # A port that another process takes in between makes a worker fail; the restart then picks others.
    cluster = {"worker": addresses}
    return [json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}) for index in range(count)]


def _devices(count: int, gpus: int) -> list[list[str]]:
    """The GPUs of each worker; empty if none were asked for. Raises PipelineError if there are too few."""
    if not gpus:
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = visible.split(",") if visible else [str(index) for index, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]
    if len(found) < count * gpus:
        raise PipelineError(
            f"workers={count} with gpus={gpus} each need {count * gpus} GPUs and this machine has {len(found)}: "
            "set gpus=0 for the CPU, or fewer workers"
        )
    return [found[index * gpus : (index + 1) * gpus] for index in range(count)]


def _die_with_parent() -> None:
    """Runs in the new process: should the launcher be killed outright, its workers write a checkpoint and end."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


# Loaded before the fork; it has prctl on Linux only.
_LIBC = ctypes.CDLL(None)
