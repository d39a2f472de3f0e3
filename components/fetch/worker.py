"""A fetching process: rows come in on stdin, images go to its own part files, a line per object goes out on stdout.

Started by pool.py as `python -m components.fetch.worker`. The first line of stdin is the job (JSON), each further line
a row, `end` the end. If stdin ends without it the parent is gone: what is finished is kept, the rest abandoned.
"""

import asyncio
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from components.fetch import parts
from components.fetch.budget import Budget
from components.fetch.download import Downloader
from components.fetch.objects import Objects
from components.fetch.settings import Limits, ShardSettings
from components.shared.errors import PipelineError

_LINE_BYTES = 16 << 20


class Worker:
    """Fetches rows side by side, decodes and writes them one after the other."""

    def __init__(self, job: dict) -> None:
        self._job = job
        self._settings, self._limits = ShardSettings(**job["settings"]), Limits(**job["limits"])
        self._writer = parts.PartWriter(job["folder"], parts.fingerprint(self._settings))
        self._opened_at = time.monotonic()
        self._uploader = ThreadPoolExecutor(2, "upload")
        self._uploads: set[asyncio.Future] = set()

    async def run(self, reader: asyncio.StreamReader) -> None:
        """Until `end`, or until stdin closes. Raises OSError if a part cannot be written."""
        budget = Budget(self._limits.buffer_bytes)
        async with Downloader(self._settings, self._limits, self._job["processes"], budget) as downloader:
            objects = Objects(self._settings, self._limits, downloader, budget)
            try:
                # The group waits for all, also after an error: nobody writes any more when the part is closed.
                async with asyncio.TaskGroup() as group:
                    await self._start_all(objects, reader, group)
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None
        self._close_part()
        await asyncio.gather(*self._uploads)

    async def _start_all(self, objects: Objects, reader: asyncio.StreamReader, group: asyncio.TaskGroup) -> None:
        running: set[asyncio.Task] = set()
        while (line := await reader.readline()) != b"end\n":
            if not line:  # the parent is gone
                for task in running:
                    task.cancel()
                return
            task = group.create_task(self._object(objects, line))
            running.add(task)
            task.add_done_callback(running.discard)

    async def _object(self, objects: Objects, line: bytes) -> None:
        ordinal, key, text = line.decode().rstrip("\n").split(" ", 2)
        outcome = await objects.fetch(json.loads(text)["image_uri"] or "")
        self._writer.add(int(ordinal), key, text, outcome)
        say(row=int(ordinal), status=outcome.status, bytes=outcome.bytes)
        if self._writer.objects >= self._limits.part_objects or self._overdue():
            self._close_part()

    def _overdue(self) -> bool:
        return bool(self._job["uri"]) and time.monotonic() - self._opened_at > self._limits.part_seconds

    def _close_part(self) -> None:
        path = self._writer.close()
        self._opened_at = time.monotonic()
        if path and self._job["uri"]:
            upload = asyncio.get_running_loop().run_in_executor(self._uploader, _upload, path, self._job["uri"])
            self._uploads.add(upload)
            upload.add_done_callback(self._uploads.discard)


def say(**values: object) -> None:
    """One line to the parent."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def _upload(path: str, uri: str) -> None:
    """A part that cannot be uploaded is still there locally: only another pod would have to fetch it again."""
    try:
        parts.upload(path, uri)
    except PipelineError as error:
        print(f"warning: {error}; another pod could not continue from here", file=sys.stderr, flush=True)


async def _main() -> None:
    reader = asyncio.StreamReader(_LINE_BYTES)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    job = json.loads(await reader.readline())
    try:
        await Worker(job).run(reader)
    except OSError as error:
        say(error=error.strerror or str(error), errno=error.errno, file=error.filename or job["folder"])


if __name__ == "__main__":
    asyncio.run(_main())
    # Threads that hang in a store's SDK must not keep a finished process alive.
    os._exit(0)
