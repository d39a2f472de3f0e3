"""A real HTTP proxy before a real store, which counts what passes and fails when it is told to."""

import http.client
import socket
import struct
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

EXPIRED = (
    b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
)


class Proxy(ThreadingHTTPServer):
    """Passes requests on to `target`.

    `faults` are used up, one per request: 503, "expired", "reset" (no answer), "cut" (half the body), "corrupt" (a byte
    of the body is another), "stall" (headers and then nothing). `always` is a fault of every further request. `methods`
    limits faults to those requests.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(target)
        self.faults: list = []
        self.always = None
        self.methods = ("GET", "PUT", "POST", "HEAD")
        self.requests: list[str] = []
        self.received: Counter = Counter()  # bytes of bodies that clients read, by path
        self.released = threading.Event()
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()

    def fault(self, method: str):
        """The fault of the next request."""
        with self.lock:
            if method not in self.methods:
                return None
            return self.faults.pop(0) if self.faults else self.always

    def handle_error(self, request, client_address) -> None:
        """Clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        with self.server.lock:
            self.server.requests.append(f"{self.command} {path}")
        fault = self.server.fault(self.command)
        if fault == "reset":
            return self._hang_up()
        if fault in (503, "expired"):
            return self._answer(403 if fault == "expired" else fault, [], EXPIRED if fault == "expired" else b"")
        connection = http.client.HTTPConnection(self.server.target.netloc, timeout=60)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            connection.putheader(name, value)
        connection.endheaders(body or None)
        response = connection.getresponse()
        data = response.read()
        connection.close()
        return self._send(response, data, fault)

    def _send(self, response, data: bytes, fault) -> None:
        ours = ("transfer-encoding", "connection", "date")
        kept = [pair for pair in response.getheaders() if pair[0].lower() not in ours]
        if fault == "corrupt" and data:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if fault in ("cut", "stall"):
            self._head(response.status, kept, len(data))
            self.wfile.write(data[: len(data) // 2])
            if fault == "stall":
                self.server.released.wait(30)
            return self._hang_up()
        if self.command == "GET" and response.status < 300:
            with self.server.lock:
                self.server.received[unquote(urlsplit(self.path).path)] += len(data)
        return self._answer(response.status, kept, data)

    def _answer(self, status: int, headers: list, data: bytes) -> None:
        length = None if self.command == "HEAD" else len(data)
        self._head(status, headers, length)
        if self.command != "HEAD":
            self.wfile.write(data)

    def _head(self, status: int, headers: list, length: int | None) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if length is None or name.lower() != "content-length":
                self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _hang_up(self) -> None:
        self.close_connection = True
        # Lingering for no time makes the kernel send a reset instead of a polite end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass

    def log_message(self, *_) -> None:
        pass
