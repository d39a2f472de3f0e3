"""gunicorn around the application: one process per core, each with an engine of its own."""

import ctypes
import errno
import logging
import mmap
import os
import selectors
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import numpy as np
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.workers.gthread import TConn, ThreadWorker

from components.artifacts import classifier
from components.artifacts.classifier import ModelError
from components.server import deadlines
from components.server.settings import ServerSettings
from components.shared.cores import available_cores
from components.shared.errors import PipelineError
from components.shared.storage import storage

# Requests beyond the queue need a thread for their 503, and probes need one while the queue is full.
SPARE_THREADS = 8
# How long a worker leaves a new connection to another one that holds fewer.
ACCEPT_SECONDS = 0.002
LOG = logging.getLogger("components.server")
_NOBODY = np.iinfo(np.int32).max
# Numbers of mallopt(3), the same in every glibc.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
# Pictures of usual sizes stay below, so their memory is reused; a larger one is a mapping of its own, gone when freed.
LARGE = 4_000_000
ARENAS = 2


class Balance:
    """The connections that each worker holds, in memory that the workers share because they are forked after it.

    All workers wait at one socket, and whichever wakes first would take all that is there: eight connections that
    come at once were held by one worker of two every few times, and the other core was idle for as long as they lived.
    """

    def __init__(self, slots: int) -> None:
        self._held = np.frombuffer(mmap.mmap(-1, 4 * slots), np.int32)
        self._held[:] = _NOBODY

    def note(self, slot: int, connections: int) -> None:
        """The worker in `slot` holds so many, and takes more."""
        self._held[slot] = connections

    def leave(self, slot: int) -> None:
        """The worker in `slot` takes no more: it is full, stops, or is dead."""
        self._held[slot] = _NOBODY

    def lighter(self, slot: int) -> bool:
        """Whether a worker that takes connections holds fewer than the one in `slot`."""
        return bool(self._held.min() < self._held[slot])


class Worker(ThreadWorker):
    """gunicorn's threaded worker, with time limits, no threads for silent connections, and its share of the others."""

    @property
    def nr_conns(self) -> int:
        """Connections that this worker holds; gunicorn counts them."""
        return self._connections

    @nr_conns.setter
    def nr_conns(self, number: int) -> None:
        self._connections = number
        if getattr(self, "_accepting", False):
            self.app.balance.note(self.slot, number)

    def set_accept_enabled(self, enabled):
        """Called when the worker begins or ends to take connections."""
        super().set_accept_enabled(enabled)
        if enabled:
            self.app.balance.note(self.slot, self.nr_conns)
        else:
            self.app.balance.leave(self.slot)

    def accept(self, listener):
        """Takes a connection, unless a worker that holds fewer does so within a moment."""
        if self.app.balance.lighter(self.slot):
            time.sleep(ACCEPT_SECONDS)
        super().accept(listener)

    def enqueue_req(self, conn):
        """Hands a connection to the thread pool: a new one only when its first bytes have come."""
        if conn.initialized or conn.data_ready:
            super().enqueue_req(conn)
            return
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + self.app.settings.read_seconds
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def _cap_keepalive(self, deadline):
        """Called when the worker begins to stop."""
        self._drain_listeners()
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

    def handle(self, conn):
        """Handles one request; runs in a thread of the pool."""
        deadlines.start(conn.sock, self.app.settings.read_seconds)
        try:
            return super().handle(conn)
        finally:
            deadlines.end(conn.sock)

    def _drain_listeners(self):
        # Whoever is connected already is served: gunicorn would leave them in the queue of a socket that stays open
        # while this worker ends its work, and then drop them. Closed at once, newcomers are refused and go elsewhere.
        for listener in self.sockets:
            with suppress(BlockingIOError):
                while True:
                    client, address = listener.accept()
                    self.nr_conns += 1
                    self.enqueue_req(TConn(self.cfg, client, address, listener.getsockname()))
            listener.close()

    def murder_keepalived(self, force=False):
        """Called about once per second by the worker's loop, while it runs and while it stops."""
        deadlines.expire()
        super().murder_keepalived(force)


class Server(BaseApplication):
    """gunicorn, configured by `settings`; `directory` is the local classifier, `scratch` takes gunicorn's files."""

    def __init__(self, settings: ServerSettings, directory: str, scratch: str) -> None:
        self.settings, self._directory = settings, directory
        self._workers = settings.workers or available_cores()
        self._scratch = scratch
        from components.server.monitor import Window

        self._window = Window(self._workers)
        self.balance = Balance(self._window.slots)
        super().__init__()

    def load_config(self) -> None:
        """gunicorn's settings."""
        settings = self.settings
        threads = settings.queue + SPARE_THREADS
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        options = {
            "bind": f"{host}:{settings.port}",
            "workers": self._workers,
            "worker_class": "components.server.server.Worker",
            "threads": threads,
            "worker_connections": max(1000, 2 * threads),
            "timeout": 300,
            "graceful_timeout": int(settings.grace_seconds),
            "keepalive": 75,
            "worker_tmp_dir": self._scratch,
            "control_socket_disable": True,
            "loglevel": "warning",
            "proc_name": f"serve {settings.name}",
            "when_ready": self._say_where,
            "pre_fork": self._give_slot,
            "child_exit": self._forget,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self):
        """The application of one worker: called in the worker, after the fork, before it takes requests."""
        from components.server import app
        from components.server.engine import Engine
        from components.server.monitor import Monitor

        model = _checked(self._directory, self.settings.engine)
        monitor = Monitor(self._window, self._slot, model.labels, model.digest[:12])
        engine = Engine(model, monitor, self.settings.queue)
        return app.create(self.settings, engine, monitor)

    def _say_where(self, _arbiter) -> None:
        host = {"0.0.0.0": "localhost", "::": "localhost"}.get(self.settings.host, self.settings.host)
        print(
            f"serving {self.settings.name} at http://{host}:{self.settings.port}/ ({self._workers} workers)", flush=True
        )

    def _give_slot(self, arbiter, worker) -> None:
        taken = {other.slot for other in arbiter.WORKERS.values()}
        worker.slot = self._slot = min(slot for slot in range(self._window.slots) if slot not in taken)

    def _forget(self, _arbiter, worker) -> None:
        from prometheus_client import multiprocess

        self.balance.leave(worker.slot)
        multiprocess.mark_process_dead(worker.pid)


def run(settings: ServerSettings) -> None:
    """Serves until SIGTERM or SIGINT; requests that were accepted are answered first.

    Raises:
        ModelError: `settings.model` is no classifier, or not the one with `settings.sha256`.
        PipelineError: nobody can listen at the address.
    """
    return_large_blocks()
    _check_address(settings)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    with _temporary(None) as copy, _scratch() as scratch:
        directory = _local_model(settings, copy)
        if settings.engine == "litert":
            # One error here instead of one from each worker. TensorFlow is not loaded: it does not survive the fork.
            _checked(directory, settings.engine)
        Server(settings, directory, scratch).run()


def _check_address(settings: ServerSettings) -> None:
    """Binds the address for a moment: gunicorn would try five times, and log its reason in its own way."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        advice = {errno.EADDRINUSE: "another program listens there; give another --port",
                  errno.EACCES: "ports below 1024 are for root; give another --port"}  # fmt: skip
        reason = advice.get(error.errno or 0, f"{error.strerror}; give an address of this machine as --host")
        raise PipelineError(f"cannot listen at {settings.host}:{settings.port}: {reason}") from error


def _local_model(settings: ServerSettings, copy: str) -> str:
    """The classifier's local folder, checked; if `settings.model` is remote it is downloaded to the folder `copy`."""
    directory = storage.local_path(settings.model)
    if directory is None:
        directory = copy
        classifier.download(settings.model, directory, settings.engine)
    if not os.path.isdir(directory):
        raise ModelError(f"there is no folder {directory}: give the folder or URI of a trained classifier")
    found = classifier.digest(directory, settings.engine)
    if settings.sha256 not in ("", found):
        raise ModelError(f"{settings.model} has the checksum {found[:12]}..., not {settings.sha256[:12]}...: "
                         "it was changed or damaged after the training; deploy again")  # fmt: skip
    return directory


def _checked(directory: str, engine: str) -> classifier.Classifier:
    """The classifier, after it has predicted a picture; the process ends with one line if it cannot."""
    try:
        model = classifier.load(directory, engine)
        model.check()
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(Arbiter.WORKER_BOOT_ERROR) from error
    return model


@contextmanager
def _scratch() -> Iterator[str]:
    """A folder, in memory if that can be had, for gunicorn's heartbeats and the workers' counters."""
    with _temporary("/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as path:
        # prometheus_client looks for this when it is first imported, which is why the imports of it come later.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = path
        yield path


@contextmanager
def _temporary(parent: str | None) -> Iterator[str]:
    """A temporary folder. Only the process that made it removes it: the workers leave by the same way out."""
    path, owner = tempfile.mkdtemp(prefix="serve-", dir=parent), os.getpid()
    try:
        yield path
    finally:
        if os.getpid() == owner:
            shutil.rmtree(path, ignore_errors=True)


def return_large_blocks() -> bool:
    """Has glibc give large blocks back; call it before there are threads or workers. False where there is no glibc.

    By default glibc raises its threshold for a mapping to the largest block that was ever freed (up to 32 MB), and has
    8 arenas a core: the pictures of a few dozen threads then stay in as many heaps, 50 MB each.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # macOS, musl
    # Whatever is set explicitly is no longer adjusted.
    limits = {_ARENA_MAX: ARENAS, _MMAP_THRESHOLD: LARGE, _TRIM_THRESHOLD: LARGE}
    return all(mallopt(name, value) for name, value in limits.items())
