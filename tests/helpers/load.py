"""Many connections that keep asking, and count what they did not get: strictly, with no second try."""

import asyncio
import collections
import itertools
import time
from collections.abc import Callable
from urllib.parse import urlsplit


def run(
    url: str, body: bytes, connections: int, seconds: float, during: Callable[[], None] | None = None
) -> collections.Counter:
    """POSTs `body` to `url` over kept-alive connections; counts answers by status, and `lost` for what had none.

    Each connection asks again as soon as it is answered. After a third of the time `during` is called. Whoever is
    refused a new connection counts as `refused`, and asks no more.
    """
    return asyncio.run(_run(url, body, connections, seconds, during))


async def _run(url, body, connections, seconds, during) -> collections.Counter:
    counts: collections.Counter = collections.Counter()
    until = time.monotonic() + seconds
    clients = [asyncio.create_task(_client(url, body, until, counts)) for _ in range(connections)]
    await asyncio.sleep(seconds / 3)
    if during is not None:
        await asyncio.to_thread(during)
    await asyncio.gather(*clients)
    return counts


async def _client(url: str, body: bytes, until: float, counts: collections.Counter) -> None:
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    reader = writer = None
    for number in itertools.count():
        if time.monotonic() >= until:
            break
        try:
            if writer is None:
                try:
                    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
                except ConnectionRefusedError:
                    counts["refused"] += 1
                    return
            writer.write(head + body)
            await writer.drain()
            status, closes = await _answer(reader)
            counts[status] += 1
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            counts["lost"] += 1
            counts[f"{type(error).__name__} at request {number}"] += 1
            closes = True
        if closes and writer is not None:
            writer.close()
            writer = None
    if writer is not None:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.partition("content-length:")[2].split("\r\n")[0])
    await reader.readexactly(length)
    return int(head.split()[1]), "connection: close" in head
