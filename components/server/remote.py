"""Fetches an image by its URL, for a stranger: only http(s), only public addresses, with limits of size and time."""

import concurrent.futures
import contextlib
import http.client
import socket
import ssl
import threading
import time
from urllib.parse import SplitResult, urljoin, urlsplit

from components.server.errors import RequestError, busy
from components.shared import addresses

SECONDS = 10.0
REDIRECTS = 3
USER_AGENT = "museum-classifier/1 (classifies one picture for a user)"
_PORTS = {"http": 80, "https": 443}


# A lookup cannot be broken off: its thread goes on until the resolver gives up, and only so many may.
_lookups = threading.BoundedSemaphore(16)


def fetch(url: str, limit: int, allow_private: bool = False, seconds: float = SECONDS) -> bytes:
    """The body of `url`, at most `limit` bytes, within `seconds` in all: lookups, connections, redirects and reading.

    Every redirect is checked like the first URL, and the connection goes to the very address that was checked.

    Raises:
        RequestError: 400 for a URL that is not allowed, 413 for too much, 422 for one that cannot be fetched.
    """
    url = _read(url)
    with _Deadline(seconds) as deadline:
        for _ in range(REDIRECTS + 1):
            try:
                body, location = _ask(url, limit, allow_private, deadline)
                deadline.left()  # hung up on, which looks like the end of the body
                if location is None:
                    return body
                url = _read(urljoin(url, addresses.clean(location)))
            except (OSError, http.client.HTTPException, ValueError) as error:
                cause = TimeoutError() if deadline.over else error
                raise _failed(f"cannot fetch the URL: {_plain(cause)}") from error
    raise _failed(f"more than {REDIRECTS} redirects")


class _Deadline:
    """Hangs up at a given time, whatever the connection is doing then.

    A timeout for each operation would let a server send a byte at a time, in the TLS handshake as in the body.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(max(0.0, seconds), self._hang_up)
        self._timer.daemon = True

    def __enter__(self) -> "_Deadline":
        self._timer.start()
        return self

    def __exit__(self, *_) -> None:
        self._timer.cancel()

    @property
    def over(self) -> bool:
        return time.monotonic() >= self._end

    def left(self) -> float:
        """Seconds left. Raises TimeoutError if there are none."""
        if self.over:
            raise TimeoutError
        return self._end - time.monotonic()

    def watch(self, connection: socket.socket) -> None:
        """From now on this connection is the one to hang up. Raises TimeoutError if it is too late."""
        with self._lock:
            self._socket = connection
        self.left()

    def _hang_up(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._socket is not None:
                # Not the SSLSocket's own method: it takes the TLS state away from the thread that reads.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _Pinned(http.client.HTTPConnection):
    """A connection to a given address; name and certificate stay those of the host."""

    def __init__(self, parts: SplitResult, port: int, address: str, deadline: _Deadline) -> None:
        super().__init__(parts.hostname or "", port)
        self._parts, self._address, self._deadline = parts, address, deadline

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self._deadline.left())
        self._deadline.watch(self.sock)
        if self._parts.scheme == "https":
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(
                self.sock, server_hostname=self._parts.hostname, do_handshake_on_connect=False
            )
            self._deadline.watch(self.sock)
            self.sock.do_handshake()


def _ask(url: str, limit: int, allow_private: bool, deadline: _Deadline) -> tuple[bytes, str | None]:
    """The body of one answer, or where it redirects to."""
    connection, target = _connect(url, allow_private, deadline)
    try:
        response = _get(connection, target)
        location = response.getheader("Location") if response.status in (301, 302, 303, 307, 308) else None
        return (_body(response, limit), None) if location is None else (b"", location)
    finally:
        connection.close()


def _connect(url: str, allow_private: bool, deadline: _Deadline) -> tuple[_Pinned, str]:
    """A connection to the first address that answers, and the target of the request line."""
    parts, port = _split(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    problem: Exception = OSError("it has no address")
    for address in _addresses(parts.hostname or "", port, allow_private, deadline)[:3]:
        connection = _Pinned(parts, port, address, deadline)
        try:
            connection.connect()
            return connection, target
        except (OSError, ValueError) as error:
            connection.close()
            problem = error
    raise problem


def _read(url: str) -> str:
    """The URL as fetch reads it. Raises RequestError 400."""
    try:
        return addresses.http_url(addresses.absolute(url))
    except addresses.AddressError as error:
        raise RequestError(400, "this is no URL: give http://... or https://...", "bad_url") from error


def _split(url: str) -> tuple[SplitResult, int]:
    """The parts of `url` and its port. Raises RequestError 400."""
    parts = urlsplit(url)
    if parts.username is not None:
        raise RequestError(400, "this URL is not allowed: no user name", "bad_url")
    return parts, parts.port or _PORTS[parts.scheme]


def _addresses(host: str, port: int, allow_private: bool, deadline: _Deadline) -> list[str]:
    """The checked addresses of `host`. Raises RequestError, TimeoutError."""
    lookups = _lookups
    if not lookups.acquire(blocking=False):
        raise busy("too many names are being looked up: try again in a second, or send the picture itself")
    found: concurrent.futures.Future = concurrent.futures.Future()

    def look_up() -> None:
        try:
            found.set_result(addresses.resolve(host, port, allow_private))
        except Exception as error:  # whatever it is belongs to whoever waits for the result
            found.set_exception(error)
        finally:
            lookups.release()

    threading.Thread(target=look_up, daemon=True).start()
    try:
        return found.result(deadline.left())
    except addresses.AddressError as error:
        reason = "private_address" if "private" in str(error) else "unresolved"
        raise RequestError(400, f"cannot fetch the URL: {error}", reason) from error


def _get(connection: _Pinned, target: str) -> http.client.HTTPResponse:
    connection.request("GET", target, headers={"User-Agent": USER_AGENT, "Accept": "image/*", "Connection": "close"})
    return connection.getresponse()


def _body(response: http.client.HTTPResponse, limit: int) -> bytes:
    if response.status not in (200, 203):
        raise _failed(f"the URL's server answered {response.status}")
    body = response.read(limit + 1)
    if len(body) > limit:
        raise RequestError(413, f"the picture behind the URL has more than {limit} bytes", "too_large")
    if response.length:
        raise http.client.IncompleteRead(body, response.length)
    return body


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
