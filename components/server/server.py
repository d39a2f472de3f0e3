"""The server: one process per core, each with an event loop and an engine of its own."""

import ctypes
import dataclasses
import errno
import logging
import os
import resource
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn

from components.artifacts import classifier, signature, works
from components.server.balance import Acceptor, Balance
from components.server.choice import choose
from components.server.connection import IDLE_SECONDS, MAX_CONNECTIONS, Connection
from components.server.settings import ServerSettings
from components.server.workers import Workers
from components.shared import engines
from components.shared.cores import available_cores
from components.shared.engines import ModelError
from components.shared.errors import PipelineError
from components.shared.storage import storage

BACKLOG = 2048
WORKS_BYTES = 260_000_000  # of vectors: 50,000 of 1,280 numbers
SEND_BUFFER = 65_536
# File descriptors that are not for connections: libraries, the model, URLs being fetched.
OTHER_FILES = 100
# Numbers of mallopt(3), the same in every glibc.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
# Images of usual sizes stay below, so their memory is reused; a larger one is a mapping of its own, gone when freed.
LARGE = 4_000_000
ARENAS = 2


class Server(uvicorn.Server):
    """uvicorn's server for one worker: its connections have limits, and are the worker's share of all."""

    def __init__(self, config: uvicorn.Config, settings: ServerSettings, place: tuple) -> None:
        super().__init__(config)
        self._read_seconds, self._place = settings.read_seconds, place

    async def startup(self, sockets=None) -> None:
        """Begins to take connections."""
        await super().startup(sockets=[])
        listener, balance, slot = self._place
        most = min(MAX_CONNECTIONS, _raise_file_limit() - OTHER_FILES)
        self._acceptor = Acceptor(
            listener,
            lambda: Connection(self.config, self.server_state, self._read_seconds, most, self._acceptor.lost),
            balance,
            slot,
        )
        self._acceptor.start()

    async def shutdown(self, sockets=None) -> None:
        """Takes who is connected already, and no more; returns when all have their answers."""
        await self._acceptor.stop()
        await super().shutdown(sockets=[])


def run(settings: ServerSettings) -> None:
    """Serves until SIGTERM or SIGINT; requests that were accepted are answered first.

    Raises:
        ModelError: `settings.model` is no classifier, or not the one with `settings.sha256`.
        PipelineError: nobody can listen at the address.
    """
    return_large_blocks()
    with _listening(settings) as listener, _temporary(None) as copy, _scratch():
        logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
        directory = _local_model(settings, copy)
        settings = dataclasses.replace(settings, engine=choose(directory, settings.engine))
        if settings.engine == engines.LITERT:
            # One error here instead of one from each worker. The others are not loaded: they do not survive the fork.
            classifier.load(directory, settings.engine).check()
        number = settings.workers or available_cores()
        from components.server.monitor import Window  # see _scratch

        window, balance = Window(number), Balance(number)
        known = _known_works(settings.model, directory)  # once, for all workers
        work = partial(_serve, settings, directory, known, window, (listener, balance))
        listener.listen(BACKLOG)
        host = {"0.0.0.0": "localhost", "::": "localhost"}.get(settings.host, settings.host)
        print(f"serving {settings.name} at http://{host}:{settings.port}/ ({number} workers)", flush=True)
        # A little longer than the workers give their requests.
        Workers(number, work, partial(_forget, balance)).run(listener.close, settings.grace_seconds + 5)


def _serve(
    settings: ServerSettings, directory: str, known: works.Works | None, window, shared: tuple, slot: int
) -> None:
    """What one worker does."""
    from components.server import app
    from components.server.engine import Engine
    from components.server.monitor import Monitor

    try:
        model = classifier.load(directory, settings.engine)
        model.check()
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(os.EX_CONFIG) from error
    monitor = Monitor(window, slot, model.labels, model.digest[:12], model.engine)
    application = app.create(settings, Engine(model, monitor, settings.queue), monitor, known)
    config = uvicorn.Config(
        application,
        http="httptools",
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        log_level=logging.ERROR,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=[("x-content-type-options", "nosniff")],
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=int(settings.grace_seconds),
    )
    Server(config, settings, (*shared, slot)).run()


def _forget(balance: Balance, slot: int, pid: int) -> None:
    from prometheus_client import multiprocess

    balance.leave(slot)
    multiprocess.mark_process_dead(pid)


def _raise_file_limit() -> int:
    """Has the process open as many files as it may; how many that is."""
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + OTHER_FILES
    if least != resource.RLIM_INFINITY and least < wanted:
        least = wanted if most == resource.RLIM_INFINITY else min(most, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, most))
    return wanted if least == resource.RLIM_INFINITY else least


def _known_works(model: str, directory: str) -> works.Works | None:
    """The works of the classifier at `model`, whose local folder is `directory`; None if there are none, or too many.

    A pod on a cluster has 1 GiB, and a comparison with all of them must not take long.
    """
    size = works.bytes_in_memory(model)
    if size > WORKS_BYTES:
        print(f"similar works are off: {size / 1e6:,.0f} MB of vectors, more than {WORKS_BYTES / 1e6:,.0f}", flush=True)
        return None
    if storage.local_path(model) is None:
        works.download(model, directory)
    return works.load(directory)


@contextmanager
def _listening(settings: ServerSettings) -> Iterator[socket.socket]:
    """A socket that is bound to the address; it does not listen yet. Raises PipelineError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _cannot_listen(settings, error) from error
    with listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Of each connection, which takes it from here: what the kernel keeps for clients that do not read.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            listener.bind(address)
            # Bound is not enough to find out: with the option above two may be, if neither listens yet.
            listener.listen(1)
        except OSError as error:
            raise _cannot_listen(settings, error) from error
        listener.setblocking(False)
        yield listener


def _cannot_listen(settings: ServerSettings, error: OSError) -> PipelineError:
    advice = {errno.EADDRINUSE: "another program listens there; give another --port",
              errno.EACCES: "ports below 1024 are for root; give another --port"}  # fmt: skip
    reason = advice.get(error.errno or 0, f"{error.strerror}; give an address of this machine as --host")
    return PipelineError(f"cannot listen at {settings.host}:{settings.port}: {reason}")


def _local_model(settings: ServerSettings, copy: str) -> str:
    """The classifier's local folder, checked; if `settings.model` is remote it is downloaded to the folder `copy`."""
    directory = storage.local_path(settings.model)
    if directory is None:
        directory = copy
        classifier.download(settings.model, directory, settings.engine)
        if settings.public_key and storage.exists(place := storage.join(settings.model, signature.FILE_NAME)):
            storage.download(place, os.path.join(directory, signature.FILE_NAME))
    if not os.path.isdir(directory):
        raise ModelError(f"there is no folder {directory}: give the folder or URI of a trained classifier")
    if settings.public_key:  # before any of it is read
        signature.verify(directory, settings.public_key)
    found = classifier.digest(directory, settings.engine)
    if settings.sha256 not in ("", found):
        raise ModelError(f"{settings.model} has the checksum {found[:12]}..., not {settings.sha256[:12]}...: "
                         "it was changed or damaged after the training; deploy again")  # fmt: skip
    return directory


@contextmanager
def _scratch() -> Iterator[str]:
    """A folder, in memory if that can be had, for the workers' counters."""
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
    8 arenas a core: the images of a few dozen threads then stay in as many heaps, 50 MB each.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # macOS, musl
    # Whatever is set explicitly is no longer adjusted.
    limits = {_ARENA_MAX: ARENAS, _MMAP_THRESHOLD: LARGE, _TRIM_THRESHOLD: LARGE}
    return all(mallopt(name, value) for name, value in limits.items())
