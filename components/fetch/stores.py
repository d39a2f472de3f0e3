"""Images in buckets and files: under the same deadline, memory budget and patience as those on the web."""

import asyncio
import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from components.artifacts import objects
from components.fetch.budget import Claim
from components.fetch.deadline import Deadline
from components.fetch.failure import Failure, Retry
from components.fetch.hosts import Host
from components.fetch.places import check_place, place_of
from components.fetch.settings import Limits, ShardSettings
from components.shared.storage import storage

T = TypeVar("T")


class Stores:
    """Reads whole files through the stores' SDKs, in threads; one per process."""

    def __init__(self, settings: ShardSettings, limits: Limits) -> None:
        self._settings, self._limits = settings, limits
        self._places: dict[tuple[str, str], _Place] = {}

    async def read(self, address: str, deadline: Deadline, claim: Claim) -> bytes:
        """The file at `address`, a path or a URI of file, gs, s3 or minio.

        Its size is asked for first, so that memory is claimed before a byte comes; what comes is checked against the
        store's checksum. Raises Failure.
        """
        check_place(address, self._settings)
        key = place_of(address)
        if key not in self._places:
            self._places[key] = _Place("://".join(key), self._limits)
        place = self._places[key]
        async with place.host.slot():
            try:
                with _translated(place.host):
                    async with deadline.running():
                        return await self._read(place, address, claim)
            except TimeoutError as error:
                place.host.silent()
                raise Failure("deadline", f"not finished within {deadline.seconds:g} s", Retry.NEVER) from error

    async def _read(self, place: "_Place", address: str, claim: Claim) -> bytes:
        if part := objects.parse_range(address):
            return await self._read_range(place, *part, claim)
        file = await place.call(_file, address)
        if file.size > self._limits.max_bytes:
            raise Failure("too_large", f"{file.size} bytes, more than {self._limits.max_bytes / 2**20:g} MB")
        await claim.expect(file.size)
        # Stores do not answer a request for a range of no bytes.
        data = await place.call(storage.read_bytes, address, 0, file.size, file.version) if file.size else b""
        if len(data) != file.size or (file.checksum and not file.checksum.matches([data])):
            raise Failure("incomplete", f"{len(data)} of {file.size} bytes, or not those stored", Retry.AGAIN)
        place.host.answered()
        return data

    async def _read_range(self, place: "_Place", uri: str, offset: int, length: int, claim: Claim) -> bytes:
        if length > self._limits.max_bytes:
            raise Failure("too_large", f"{length} bytes, more than {self._limits.max_bytes / 2**20:g} MB")
        await claim.expect(length)
        data = await place.call(storage.read_bytes, uri, offset, length) if length else b""
        if len(data) != length:
            raise Failure("incomplete", f"{len(data)} of {length} bytes", Retry.AGAIN)
        place.host.answered()
        return data


class _Place:
    """One bucket, or this machine's files. Threads of its own: one that hangs must not hold up the others."""

    def __init__(self, name: str, limits: Limits) -> None:
        self.host = Host(name, 0, limits.store_connections, limits)
        self._threads = ThreadPoolExecutor(limits.store_connections, "store")

    async def call(self, function: Callable[..., T], *arguments: object) -> T:
        """`function(*arguments)`, in a thread. What it does after the deadline is lost; the thread comes back later."""

        def once() -> T:
            with storage.no_retries():  # the object's own attempts, with their backoff, are counted and bounded
                return function(*arguments)

        return await asyncio.get_running_loop().run_in_executor(self._threads, once)


def _file(address: str) -> storage.FileInfo:
    path = storage.local_path(address)
    if path is not None and os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
        raise storage.StorageError(f"{path} is a folder, a device or a pipe, not a file")
    return storage.stat(address)


@contextlib.contextmanager
def _translated(host: Host) -> Iterator[None]:
    """Storage's errors as Failures; tells the place's pace when there was no answer."""
    try:
        yield
    except TimeoutError:  # the deadline's, though an OSError
        raise
    except storage.NotFound as error:
        host.answered()
        raise Failure("not_found", str(error)) from error
    except storage.TransientStorageError as error:
        host.silent()
        raise Failure("storage", str(error), Retry.AGAIN) from error
    except (storage.StorageError, OSError) as error:
        raise Failure("unreadable", str(error)) from error
