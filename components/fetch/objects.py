"""One object's way from its address to a stored image, with as many attempts as make sense."""

import asyncio
import contextlib
import hashlib
import math
import random
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from components.artifacts.image_shard import OK
from components.fetch import iiif
from components.fetch.budget import Budget
from components.fetch.deadline import Deadline
from components.fetch.download import Body, Downloader
from components.fetch.failure import Failure, Retry
from components.fetch.outcome import Outcome
from components.fetch.semaphore import SharedSemaphore
from components.fetch.settings import Limits, ShardSettings
from components.fetch.stores import Stores
from components.shared import addresses, hashing, imaging
from components.shared.errors import PipelineError
from components.shared.templates import is_template

_TURN = SharedSemaphore()
# Levels of 255 by which the pixels of one colour may differ after a JPEG's rounding.
_FLAT = 2
# Sizes that are tried of an image whose IIIF service refused the one that was asked for.
_MOST_SIZES = 4


class Objects:
    """Fetches objects; one per process."""

    def __init__(self, settings: ShardSettings, limits: Limits, downloader: Downloader, budget: Budget) -> None:
        self._settings, self._limits, self._downloader, self._budget = settings, limits, downloader, budget
        self._stores = Stores(settings, limits)
        # What goes into a template, the query step has put there.
        self._base = "" if is_template(settings.image_base) else settings.image_base
        self._services = iiif.Services(settings.image_size)
        self._large = ThreadPoolExecutor(1, "large")

    async def fetch(self, image_uri: str) -> Outcome:
        """Tries until there is an image, or a reason why there is none; raises nothing for the object's own faults."""
        started = time.monotonic()
        deadline = Deadline(self._limits.deadline)
        attempts = refusals = 0
        refused_at = math.inf
        last_sha256 = ""
        while True:
            attempts += 1
            try:
                outcome = await self._attempt(image_uri, deadline, last_sha256)
                break
            except Failure as failure:
                if failure.retry is Retry.LATER:
                    refusals += 1
                    refused_at = min(refused_at, time.monotonic())
                if not self._again(failure, attempts - refusals, refusals, deadline, refused_at):
                    outcome = Outcome(
                        failure.reason, failure.http_status, message=str(failure)[:500], **failure.original
                    )
                    break
                last_sha256 = failure.original.get("sha256", "")
                await self._back_off(failure, attempts, deadline)
            except Exception as error:  # a fault of ours that this object brought out: the others must not pay for it
                traceback.print_exc()
                outcome = Outcome("internal", message=f"{type(error).__name__}: {error}")
                break
        return replace(outcome, attempts=attempts, seconds=round(time.monotonic() - started, 3))

    def _again(self, failure: Failure, faults: int, refusals: int, deadline: Deadline, refused_at: float) -> bool:
        if failure.retry is Retry.NEVER or deadline.left <= 0:
            return False
        # The deadline stands still while a host pauses: twenty pauses of a quarter of an hour are too many.
        if time.monotonic() - refused_at > self._limits.patience:
            return False
        return faults < self._limits.attempts and refusals < self._limits.refusals

    async def _back_off(self, failure: Failure, attempts: int, deadline: Deadline) -> None:
        """Exponential backoff with full jitter, so that objects that failed together do not come back together.

        https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        """
        ceiling = min(self._limits.max_backoff, self._limits.backoff * 2 ** min(attempts - 1, 16))
        pause = random.uniform(0, ceiling)
        if failure.retry is Retry.AGAIN:
            pause = max(pause, min(failure.retry_after, self._limits.max_backoff))
            deadline.left -= pause
        await asyncio.sleep(pause)

    async def _attempt(self, image_uri: str, deadline: Deadline, last_sha256: str) -> Outcome:
        address = located(image_uri, self._base)
        async with self._body(address, deadline) as body:
            encoded = _opened(body, last_sha256)
            if not encoded.is_large(self._settings.image_size):
                # In the thread that reads: a thread of its own would take turns with it at the interpreter's lock,
                # which costs more than the few milliseconds for which the connections fill the kernel's buffers.
                return _shrunk(encoded, body, self._settings, last_sha256)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._large, _shrunk_in_turn, encoded, body, self._settings, last_sha256)

    @contextlib.asynccontextmanager
    async def _body(self, address: str, deadline: Deadline) -> AsyncIterator[Body]:
        scheme = address.partition(":")[0]
        if scheme in ("http", "https"):
            async with self._image(address, deadline) as body:
                yield body
        elif scheme == "sample":
            yield _sample(address)
        else:
            async with self._budget.claim(deadline) as claim:
                yield Body(await self._stores.read(address, deadline, claim), 0)

    @contextlib.asynccontextmanager
    async def _image(self, address: str, deadline: Deadline) -> AsyncIterator[Body]:
        """The body at `address`, or that of the same image in a size that its IIIF service says it serves."""
        address = self._services.adapted(address)
        async with contextlib.AsyncExitStack() as stack:
            try:
                body = await stack.enter_async_context(self._downloader.get(address, deadline))
            except Failure as failure:
                if not self._services.may_help(address, failure):
                    raise
                # One image finds out what the host takes; those that were asked for beside it then know.
                async with self._services.turn(address):
                    body = await self._other_size(stack, address, failure, deadline)
            yield body

    async def _other_size(
        self, stack: contextlib.AsyncExitStack, address: str, failure: Failure, deadline: Deadline
    ) -> Body:
        if (learned := self._services.adapted(address)) != address:
            with contextlib.suppress(Failure):
                return await stack.enter_async_context(self._downloader.get(learned, deadline))
        if not (request := iiif.parse(address)):
            raise failure
        try:
            async with self._downloader.get(request.info, deadline) as described:
                info = described.data
            others = list(self._services.others(address, info))[:_MOST_SIZES]
        except (Failure, ValueError):
            raise failure from None
        for other in others:
            try:
                body = await stack.enter_async_context(self._downloader.get(other, deadline))
            except Failure as again:
                if not self._services.may_help(other, again):
                    raise
            else:
                self._services.worked(address, other, info)
                return body
        message = f"{failure}; none of the sizes that its info.json tells of is served"
        raise Failure("size_not_allowed", message, http_status=failure.http_status)


def located(image_uri: str, image_base: str) -> str:
    """The address with its base: a URI of a known scheme, or a local path. Raises Failure(bad_address)."""
    if not addresses.clean(image_uri):
        raise Failure("no_address", "the object has no picture address")
    try:
        return addresses.absolute(image_uri, image_base)
    except addresses.AddressError as error:
        raise Failure("bad_address", str(error)) from error


def _opened(body: Body, last_sha256: str) -> imaging.EncodedImage:
    with _failures(body, last_sha256):
        return imaging.EncodedImage(body.data)


def _shrunk_in_turn(encoded: imaging.EncodedImage, body: Body, settings: ShardSettings, last_sha256: str) -> Outcome:
    with _TURN:
        return _shrunk(encoded, body, settings, last_sha256)


def _shrunk(encoded: imaging.EncodedImage, body: Body, settings: ShardSettings, last_sha256: str) -> Outcome:
    """Decodes, resizes and encodes. Raises Failure with the image's reason.

    An image of one colour is a placeholder, or what is left of a damaged one: its message says so, and assemble warns.
    """
    with _failures(body, last_sha256):
        decoded = encoded.decode(settings.image_size)
        pixels = imaging.resize_short_side(decoded.pixels, settings.image_size)
        thumbnail, message = hashing.thumbnail(pixels), ""
        if hashing.is_flat(thumbnail) and np.ptp(pixels, axis=(0, 1)).max() <= _FLAT:
            shown = "transparent" if encoded.is_transparent() else _colour(pixels)
            message = f"{hashing.BLANK}: every pixel is {shown}"
        picture = imaging.encode_jpeg(pixels, settings.jpeg_quality)
    return Outcome(
        OK, body.http_status, bytes=len(body.data), width=decoded.width, height=decoded.height, sha256=body.sha256,
        picture=picture, encoded_sha256=hashlib.sha256(picture).hexdigest(), thumbnail=thumbnail, message=message,
    )  # fmt: skip


def _colour(pixels: np.ndarray) -> str:
    return "#{:02x}{:02x}{:02x}".format(*pixels[0, 0].tolist())


@contextlib.contextmanager
def _failures(body: Body, last_sha256: str) -> Iterator[None]:
    """An image's ImageError as a Failure."""
    try:
        yield
    except imaging.ImageError as error:
        # An image that is cut off may be the connection's fault, unless the same bytes came before.
        again = error.reason == "truncated" and body.http_status and body.sha256 != last_sha256
        failure = Failure(error.reason, str(error), Retry.AGAIN if again else Retry.NEVER, body.http_status)
        failure.original = {"bytes": len(body.data), "sha256": body.sha256}
        raise failure from error


def _sample(address: str) -> Body:
    from components.shared import sample

    try:
        return Body(sample.picture(address), 0)
    except (PipelineError, LookupError, ValueError) as error:
        raise Failure("not_found", f"the sample has no {address}: {error}") from error
