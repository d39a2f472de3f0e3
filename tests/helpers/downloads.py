"""Downloads by the fetch step's HTTP client."""

import asyncio

from components.fetch.budget import Budget
from components.fetch.deadline import Deadline
from components.fetch.download import Downloader
from components.fetch.failure import Failure
from components.fetch.settings import Settings
from tests.fakes.image_server import Server
from tests.helpers.fetch_settings import fetch_settings
from tests.helpers.fetched_shards import QUICK


def get(settings: Settings, addresses: list[str], limits=QUICK, at_once: bool = True) -> list:
    """Body or Failure of each address, all in one session."""

    async def one(downloader: Downloader, address: str):
        try:
            async with downloader.get(address, Deadline(limits.deadline)) as body:
                return body
        except Failure as failure:
            return failure

    async def together():
        async with Downloader(settings, limits, 1, Budget(limits.buffer_bytes)) as downloader:
            if at_once:
                return await asyncio.gather(*(one(downloader, address) for address in addresses))
            return [await one(downloader, address) for address in addresses]

    return asyncio.run(together())


def polite(server: Server, **changes) -> Settings:
    return fetch_settings(image_base=f"{server.url}/", requests_per_second=0, **changes)
