"""One HTTP GET under every limit: addresses, redirects, size, compression, pace, robots.txt."""

import asyncio
import contextlib
import email.utils
import functools
import hashlib
import re
import ssl
import sys
import time
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urljoin
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from components.fetch import refusals
from components.fetch.budget import Budget, Claim
from components.fetch.codings import Unpacker
from components.fetch.connections import Connector
from components.fetch.deadline import Deadline
from components.fetch.failure import Failure, Retry
from components.fetch.hosts import Host
from components.fetch.places import hosts_of, named_hosts
from components.fetch.resolver import GuardedResolver, PrivateAddressError
from components.fetch.robots import MAX_BYTES, Robots, check_headers
from components.fetch.settings import Limits, ShardSettings
from components.shared import addresses

_CHUNK = 1 << 16
# A connection stops reading at twice this: large enough that most images come without a stop.
_BUFFER = 1 << 18
_RANGE = re.compile(r"bytes 0-(\d{1,18})/(\d{1,18})")


@dataclass(frozen=True)
class Body:
    """What came: the bytes, and the HTTP status (0: not by HTTP)."""

    data: bytes
    http_status: int

    @functools.cached_property
    def sha256(self) -> str:
        """Of the bytes, in hex."""
        return hashlib.sha256(self.data).hexdigest()


class Downloader:
    """GETs with keep-alive connections, a polite pace per host and guarded addresses. One per process."""

    def __init__(self, settings: ShardSettings, limits: Limits, processes: int, budget: Budget) -> None:
        """`processes` of this shard, and as many of each shard beside it, share each host's rate and connections."""
        self._settings, self._limits, self._budget = settings, limits, budget
        self._sharing = processes * settings.side_by_side
        self._hosts: dict[str, Host] = {}
        self._robots = Robots(self._read_robots, self._on_crawl_delay, limits.max_crawl_delay)
        self._proxies = getproxies()
        exempt = named_hosts(settings) | hosts_of(self._proxies.values())
        self._resolver = GuardedResolver(exempt, settings.allow_private_addresses)
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> "Downloader":
        self._session = aiohttp.ClientSession(
            connector=Connector(limit=0, resolver=self._resolver, ttl_dns_cache=300, keepalive_timeout=30),
            headers={
                "User-Agent": self._settings.user_agent,
                # JPEG first: a server that negotiates would re-encode it for whoever prefers AVIF.
                "Accept": "image/jpeg,image/*;q=0.8,*/*;q=0.5",
                # Images are compressed already; what comes compressed all the same is unpacked under a limit.
                "Accept-Encoding": "identity",
            },
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self._limits.connect_timeout, sock_read=self._limits.read_timeout
            ),
            # Some hosts answer only whoever brings their cookie back; literal addresses have cookies like names.
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            auto_decompress=False,
            read_bufsize=_BUFFER,
            trust_env=bool(self._proxies),
        )
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._session.close()

    @contextlib.asynccontextmanager
    async def get(self, address: str, deadline: Deadline) -> AsyncIterator[Body]:
        """The body behind `address`; its bytes count against the process's budget until the block is left.

        Args:
            address: http or https URL.
            deadline: Runs while a request is under way; the wait for a host or for memory does not count.

        Raises:
            Failure: for everything that can go wrong on the way.
        """
        async with self._budget.claim(deadline) as claim:
            yield await self._follow(
                _url(address), deadline, claim, self._settings.respect_robots, self._limits.max_bytes
            )

    async def _follow(self, url: URL, deadline: Deadline, claim: Claim, polite: bool, max_bytes: int) -> Body:
        """Follows redirects by hand: each hop's address, host and robots.txt are looked at anew."""
        seen: list[tuple[URL, str]] = []
        jar = self._session.cookie_jar
        while True:
            # Redirected to itself with a new cookie it is another question.
            step = url, jar.filter_cookies(url).output() if len(jar) else ""
            if step in seen:
                raise Failure("redirect_loop", f"redirected in a circle: {url}")
            if len(seen) > self._limits.redirects:
                raise Failure("too_many_redirects", f"more than {self._limits.redirects} redirects")
            seen.append(step)
            if polite:
                await self._robots.check(str(url.origin()), str(url))
            result = await self._request(url, deadline, claim, polite, max_bytes)
            if isinstance(result, Body):
                return result
            url = result

    async def _request(self, url: URL, deadline: Deadline, claim: Claim, polite: bool, max_bytes: int) -> Body | URL:
        host = self._host(url)
        async with host.slot():
            try:
                with _translated(host):
                    async with deadline.running():
                        await self._check_address(url)
                        async with self._session.get(url, allow_redirects=False) as response:
                            return await self._receive(url, response, host, claim, polite, max_bytes)
            except TimeoutError as error:
                host.silent()
                raise Failure("deadline", f"not finished within {deadline.seconds:g} s", Retry.NEVER) from error

    async def _check_address(self, url: URL) -> None:
        """Raises PrivateAddressError for what the resolver does not see: literals, and names that a proxy resolves."""
        if url.scheme in self._proxies and not proxy_bypass(url.host or ""):
            await self._resolver.check_proxied(url.host or "", url.port or 0)
        else:
            self._resolver.check_literal(url.host or "", url.port or 0)

    async def _receive(self, url: URL, response, host: Host, claim: Claim, polite: bool, max_bytes: int) -> Body | URL:
        page = b"" if _is_whole(response) else await _error_page(response)
        if response.status in (301, 302, 303, 307, 308):
            host.answered()
            return _redirection(url, response)
        if not _is_whole(response):
            failure = refusals.explained(str(url), response.status, response.headers, page) or _refusal(response)
            if failure.reason in refusals.TURNED_AWAY:
                host.turned_away(failure.reason, str(failure))
            elif failure.retry is Retry.LATER:
                host.refused(failure.retry_after)
            elif failure.retry is Retry.AGAIN:
                host.failed()
            else:
                host.answered()
            raise failure
        if polite:
            check_headers(response.headers)
        if (response.content_length or 0) > max_bytes:
            raise _too_large(max_bytes)
        data = await _read(response, claim, max_bytes)
        if data[:_CHUNK].lstrip()[:1] == b"<":
            self._check_page(url, response, host, data[:_CHUNK])
        host.answered()
        return Body(data, response.status)

    def _check_page(self, url: URL, response: aiohttp.ClientResponse, host: Host, page: bytes) -> None:
        """Raises Failure for a page in the place of an image that says why there is none."""
        if failure := refusals.explained(str(url), response.status, response.headers, page):
            host.turned_away(failure.reason, str(failure))
            raise failure

    def _host(self, url: URL) -> Host:
        key = f"{url.host}:{url.port}"
        if key not in self._hosts:
            share = max(1, self._limits.host_connections // self._sharing)
            self._hosts[key] = Host(key, self._settings.requests_per_second / self._sharing, share, self._limits)
        return self._hosts[key]

    def _on_crawl_delay(self, origin: str, seconds: float) -> None:
        if self._host(URL(origin)).crawl_delay(seconds * self._sharing):
            print(
                f"{origin}/robots.txt asks for {seconds:g} s between requests (Crawl-delay): 1,000 pictures from there "
                f"take {seconds * 1000 / 3600:.1f} hours, over all shards",
                file=sys.stderr, flush=True,
            )  # fmt: skip

    async def _read_robots(self, address: str, patient: bool) -> bytes:
        """If `patient`, for as long as a host is waited for: everything from this host depends on it."""
        loop = asyncio.get_running_loop()
        started, attempt = loop.time(), 0
        while True:
            attempt += 1
            deadline = Deadline(self._limits.deadline)
            try:
                async with self._budget.claim(deadline) as claim:
                    body = await self._follow(URL(address), deadline, claim, False, MAX_BYTES * 4)
                return body.data
            except Failure as failure:
                waits = failure.reason != "dns" and loop.time() - started < self._limits.host_patience
                ends = attempt >= self._limits.attempts and not waits
                if not patient or failure.retry is Retry.NEVER or ends:
                    raise
            await asyncio.sleep(min(self._limits.max_backoff, self._limits.backoff * 2 ** min(attempt, 10)))


def _url(address: str) -> URL:
    try:
        return URL(addresses.http_url(address), encoded=True)
    except ValueError as error:
        raise Failure("bad_address", str(error)) from error


def _redirection(url: URL, response: aiohttp.ClientResponse) -> URL:
    location = response.headers.get("Location", "")
    if not location:
        raise Failure("bad_response", "a redirect without a Location", http_status=response.status)
    try:
        return URL(addresses.http_url(urljoin(str(url), addresses.clean(location))), encoded=True)
    except ValueError as error:
        raise Failure("bad_address", f"redirected to {location[:200]!r}: only http and https are followed") from error


def _refusal(response: aiohttp.ClientResponse) -> Failure:
    """What a status other than 200 means for another attempt."""
    status, reason = response.status, f"http_{response.status}"
    message = f"HTTP {status} {response.reason or ''}".strip()
    wait = _retry_after(response.headers.get("Retry-After", ""))
    if status == 429 or (status == 503 and wait):
        return Failure(reason, message, Retry.LATER, status, wait)
    if status in (408, 425) or status >= 500:
        return Failure(reason, message, Retry.AGAIN, status, wait)
    return Failure(reason, message, Retry.NEVER, status)


def _retry_after(value: str) -> float:
    """Seconds of a Retry-After header (RFC 9110: seconds or a date); 0 if there is none."""
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


async def _error_page(response: aiohttp.ClientResponse) -> bytes:
    """A short error page, or the beginning of one without a length: a connection with unread bytes is of no use."""
    if response.content_length is not None:
        return await response.content.read() if response.content_length <= _CHUNK else b""
    page = bytearray()
    if response.content_type.startswith("text/"):
        async for chunk in response.content.iter_chunked(_CHUNK):
            page += chunk
            if len(page) >= _CHUNK:
                break
    return bytes(page)


def _is_whole(response: aiohttp.ClientResponse) -> bool:
    """Whether the body is all there is: 203 is 200 by way of a proxy that changed something, 206 may be all bytes."""
    if response.status == 206:
        match = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        return match is not None and int(match[1]) + 1 == int(match[2])
    return response.status in (200, 203)


async def _read(response: aiohttp.ClientResponse, claim: Claim, max_bytes: int) -> bytes:
    """Reads the body, never more than `max_bytes`, unpacking gzip and deflate on the way."""
    unpacker = Unpacker(response.headers.getall("Content-Encoding", []), max_bytes)
    if unpacker.unknown:
        raise Failure("bad_response", f"Content-Encoding: {unpacker.unknown}, which was not asked for")
    if not unpacker.is_needed:
        return await _read_plain(response, claim, max_bytes)
    await claim.expect(max_bytes)
    async for chunk in response.content.iter_chunked(_CHUNK):
        if unpacker.feed(chunk) > max_bytes:
            raise _too_large(max_bytes)
    if not unpacker.is_complete:
        raise Failure("incomplete", "the compressed body is cut off", Retry.AGAIN, response.status)
    return unpacker.data


async def _read_plain(response: aiohttp.ClientResponse, claim: Claim, max_bytes: int) -> bytes:
    await claim.expect(response.content_length)
    if response.content_length is not None:
        return await response.content.read()  # aiohttp reads what was announced, no more
    data = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        data += chunk
        if len(data) > max_bytes:
            raise _too_large(max_bytes)
        await claim.grow(len(data), max_bytes)
    return bytes(data)


def _too_large(max_bytes: int) -> Failure:
    return Failure("too_large", f"more than {max_bytes / 2**20:g} MB", http_status=200)


@contextlib.contextmanager
def _translated(host: Host):
    """aiohttp's errors as Failures; tells the host's pace when there was no sign of life."""
    try:
        yield
    except PrivateAddressError as error:
        raise Failure("private_address", f"{error}; allow_private_addresses=true lets it pass") from error
    except aiohttp.ServerTimeoutError as error:
        host.silent()
        raise Failure("timeout", str(error) or "no answer in time", Retry.AGAIN) from error
    except aiohttp.ClientConnectorDNSError as error:
        if isinstance(error.os_error, PrivateAddressError):
            raise Failure("private_address", f"{error.os_error}; allow_private_addresses=true lets it pass") from error
        host.silent()
        raise Failure("dns", f"no address for {error.host}: {error.os_error}", Retry.AGAIN) from error
    except (aiohttp.ClientSSLError, ssl.SSLError) as error:
        raise Failure("tls", str(error)) from error
    except aiohttp.ClientConnectorError as error:
        host.silent()
        raise Failure("refused", str(error), Retry.AGAIN) from error
    except aiohttp.ClientPayloadError as error:
        host.failed()
        raise Failure("incomplete", f"the body was cut off: {error}", Retry.AGAIN) from error
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError) as error:
        host.failed()
        raise Failure("reset", f"connection lost: {error}", Retry.AGAIN) from error
    except zlib.error as error:
        raise Failure("bad_response", f"damaged compression: {error}", Retry.AGAIN) from error
    except aiohttp.InvalidURL as error:
        raise Failure("bad_address", f"no usable address: {error}") from error
    except aiohttp.ClientError as error:
        raise Failure("bad_response", f"{type(error).__name__}: {error}", Retry.AGAIN) from error
