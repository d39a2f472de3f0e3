"""Fetches a picture by its URL, for a stranger: only http(s), only public addresses, with limits of size and time."""

import contextlib
import http.client
import socket
import ssl
import threading
import time
from urllib.parse import SplitResult, urljoin, urlsplit

from components.serve.errors import RequestError
from components.shared import addresses

SECONDS = 10.0
REDIRECTS = 3
USER_AGENT = "museum-classifier/1 (classifies one picture for a user)"
_PORTS = {"http": 80, "https": 443}


def fetch(url: str, limit: int, allow_private: bool = False, seconds: float = SECONDS) -> bytes:
    """The body of `url`, at most `limit` bytes, within `seconds` in all.

    Every redirect is checked like the first URL, and the connection goes to the very address that was checked.

    Raises:
        RequestError: 400 for a URL that is not allowed, 413 for too much, 422 for one that cannot be fetched.
    """
    deadline = time.monotonic() + seconds
    for _ in range(REDIRECTS + 1):
        connection, target = _connect(url, allow_private, deadline)
        watchdog = threading.Timer(max(0, deadline - time.monotonic()), _hang_up, [connection.sock])
        watchdog.start()
        try:
            response = _get(connection, target)
            location = response.getheader("Location") if response.status in (301, 302, 303, 307, 308) else None
            body = _body(response, limit) if location is None else b""
            if time.monotonic() >= deadline:
                raise TimeoutError  # hung up by the watchdog, which looks like the end of the body
            if location is None:
                return body
            url = urljoin(url, location)
        except (OSError, http.client.HTTPException, ValueError) as error:
            cause = error if time.monotonic() < deadline else TimeoutError()
            raise _failed(f"cannot fetch the URL: {_plain(cause)}") from error
        finally:
            watchdog.cancel()
            connection.close()
    raise _failed(f"more than {REDIRECTS} redirects")


class _Pinned(http.client.HTTPConnection):
    """A connection to a given address; name and certificate stay those of the host."""

    def __init__(self, parts: SplitResult, port: int, address: str, timeout: float) -> None:
        super().__init__(parts.hostname, port, timeout=timeout)
        self._parts, self._address = parts, address

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._parts.scheme == "https":
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=self._parts.hostname)


def _connect(url: str, allow_private: bool, deadline: float) -> tuple[_Pinned, str]:
    """A connection to the first address that answers, and the target of the request line."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
        host = parts.hostname or ""
        url.encode("ascii")
    except (ValueError, KeyError) as error:
        raise RequestError(400, "this is no URL: give http://... or https://..., in ASCII", "bad_url") from error
    if parts.username is not None or not host or any(character <= " " for character in url):
        raise RequestError(400, "this URL is not allowed: no user name, no spaces", "bad_url")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        found = addresses.resolve(host, port, allow_private)
    except addresses.AddressError as error:
        reason = "private_address" if "private" in str(error) else "unresolved"
        raise RequestError(400, f"cannot fetch the URL: {error}", reason) from error
    problem: Exception = OSError("it has no address")
    for address in found[:3]:
        connection = _Pinned(parts, port, address, max(0.1, deadline - time.monotonic()))
        try:
            connection.connect()
            return connection, target
        except (OSError, ValueError) as error:
            connection.close()
            problem = error
    raise _failed(f"cannot fetch the URL: {_plain(problem)}") from problem


def _get(connection: _Pinned, target: str) -> http.client.HTTPResponse:
    connection.request("GET", target, headers={"User-Agent": USER_AGENT, "Accept": "image/*", "Connection": "close"})
    return connection.getresponse()


def _body(response: http.client.HTTPResponse, limit: int) -> bytes:
    if response.status != 200:
        raise _failed(f"the URL's server answered {response.status}")
    body = response.read(limit + 1)
    if len(body) > limit:
        raise RequestError(413, f"the picture behind the URL has more than {limit} bytes", "too_large")
    if response.length:
        raise http.client.IncompleteRead(body, response.length)
    return body


def _hang_up(connection: socket.socket) -> None:
    """Ends a connection whose time is up. A timeout for each read would let a server send a byte at a time."""
    with contextlib.suppress(OSError):
        # Not the SSLSocket's own method: it takes the TLS state away from the thread that reads.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _failed(message: str) -> RequestError:
    return RequestError(422, message, "url_failed")


def _plain(error: Exception) -> str:
    """The kind of a failure, without addresses: they would tell a stranger what the network looks like."""
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    if isinstance(error, ssl.SSLError):
        return "its certificate is not valid"
    if isinstance(error, ConnectionRefusedError):
        return "it refuses the connection"
    return "it does not answer properly"
