"""A picture server that misbehaves on purpose, one fault a path, and remembers what was asked of it."""

import collections
import contextlib
import functools
import gzip
import io
import re
import socket
import struct
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from PIL import Image

# 50 megapixels.
LARGE = (8000, 6300)


@functools.cache
def jpeg(seed: int = 0, width: int = 200, height: int = 160, format: str = "JPEG") -> bytes:
    """A picture of soft noise that differs with the seed."""
    noise = np.random.default_rng(seed).integers(0, 255, (8, 10, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(buffer, format)
    return buffer.getvalue()


@functools.cache
def large_png(width: int, height: int) -> bytes:
    """A complete PNG of one colour: tiny as a file, enormous in memory."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    packer = zlib.compressobj(9)
    row = b"\0" * (1 + 3 * width)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@functools.cache
def bomb() -> bytes:
    """100 kB that unpack to 100 MB."""
    return gzip.compress(b"\0" * (100 << 20), 6)


class Server(ThreadingHTTPServer):
    """Serves until the end of the `with` block. `asked` counts requests by path, `times` keeps when they came."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: str = "127.0.0.1", robots: str | int = 404, tdmrep: str | int = 404) -> None:
        super().__init__((address, 0), Handler)
        self.robots, self.tdmrep = robots, tdmrep
        self.asked: collections.Counter[str] = collections.Counter()
        self.times: list[float] = []
        self.agents: set[str] = set()
        self.connections = 0
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        # Threads that hang on purpose wait for this, not for a time.
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]}:{self.server_address[1]}"

    def handle_error(self, request, client_address) -> None:
        """Clients that hang up are what these tests are about."""

    def __enter__(self) -> "Server":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """The first segment of the path names the fault, the rest are its arguments."""

    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.connections += 1

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        server = self.server
        with server.lock:
            server.asked[path] += 1
            server.times.append(time.monotonic())
            server.agents.add(self.headers.get("User-Agent", ""))
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
            count = server.asked[path]
        try:
            if path in ("/robots.txt", "/.well-known/tdmrep.json"):
                return self._text(self.server.robots if path == "/robots.txt" else self.server.tdmrep)
            name, *arguments = path.strip("/").split("/")
            serve = getattr(self, "serve_" + re.sub(r"\W", "_", name), None)
            serve(count, *arguments) if serve else self._reply(404, b"no such fault", type="text/plain")
        finally:
            with server.lock:
                server.at_once -= 1

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet."""

    def _text(self, text: str | int) -> None:
        self._reply(text, b"") if isinstance(text, int) else self._reply(200, text.encode(), type="text/plain")

    def serve_page(self, count: int, status: str, kind: str) -> None:
        """A refusal as hosts send it: in chunks, as Cloudflare does."""
        page = {
            "challenge": b"<!DOCTYPE html><html><title>Just a moment...</title><script>window._cf_chl_opt={}</script>",
            "login": b"<html><form action=/in><input name=u><input name=p type='password'></form></html>",
            "size": b"<html><h1>Error</h1><p>Use thumbnail sizes listed on https://w.wiki/GHai</p></html>",
        }.get(kind, b"")
        self.send_response(int(status))
        self.send_header("Content-Type", "text/html")
        self.send_header("Transfer-Encoding", "chunked")
        if kind == "header":
            self.send_header("cf-mitigated", "challenge")
        self.end_headers()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(page), page) * bool(page) + b"0\r\n\r\n")

    def serve_login(self, count: int, *rest: str) -> None:
        self._reply(200, b"<html>Who are you?</html>", type="text/html")

    def _reply(
        self, status: int, body: bytes, type: str = "image/jpeg", length: int | None = None, **headers: str
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", type)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _picture(self, number: str = "0") -> bytes:
        return jpeg(int(re.sub(r"\D", "", number) or 0))

    def serve_ok(self, count: int, number: str) -> None:
        self._reply(200, self._picture(number))

    def serve_slow(self, count: int, number: str) -> None:
        """Takes 50 ms, so that requests overlap."""
        self.server.closing.wait(0.05)
        self._reply(200, self._picture(number))

    def serve_status(self, count: int, status: str, *rest: str) -> None:
        self._reply(int(status), b"" if status in ("204", "304") else b"sorry", type="text/plain")

    def serve_slow_status(self, count: int, status: str, *rest: str) -> None:
        """Takes 50 ms to say no."""
        self.server.closing.wait(0.05)
        self._reply(int(status), b"sorry", type="text/plain")

    def serve_flaky(self, count: int, status: str, times: str, number: str, retry_after: str = "") -> None:
        """`status` for the first `times` requests of this path, then a picture."""
        if count <= int(times):
            return self._reply(int(status), b"later", **({"Retry_After": retry_after} if retry_after else {}))
        self._reply(200, self._picture(number))

    def serve_storm(self, count: int, most: str, number: str) -> None:
        """429 with Retry-After while more than `most` requests came within the last second."""
        with self.server.lock:
            recent = sum(at > time.monotonic() - 1 for at in self.server.times)
        if recent > int(most):
            return self._reply(429, b"", Retry_After="1")
        self._reply(200, self._picture(number))

    def serve_html(self, count: int) -> None:
        self._reply(200, b"<!DOCTYPE html><title>Please sign in</title>", type="image/jpeg")

    def serve_wrong_type(self, count: int) -> None:
        self._reply(200, self._picture(), type="text/html")

    def serve_empty(self, count: int) -> None:
        self._reply(200, b"")

    def serve_half(self, count: int, times: str) -> None:
        """Promises all, sends half and hangs up; complete after `times` tries."""
        body = self._picture()
        if count > int(times):
            return self._reply(200, body)
        self._reply(200, body[: len(body) // 2], length=len(body))
        self.close_connection = True

    def serve_half_without_length(self, count: int, times: str) -> None:
        """A body that ends when the connection does, too early: only the picture itself tells."""
        body = self._picture()
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body if count > int(times) else body[: len(body) // 2])
        self.close_connection = True

    def serve_cut_file(self, count: int) -> None:
        """The file on the server is itself cut off."""
        body = self._picture()
        self._reply(200, body[: len(body) // 2])

    def serve_longer(self, count: int) -> None:
        """More bytes than promised: the surplus must not become the next answer."""
        body = self._picture()
        self._reply(200, body + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", length=len(body))

    def serve_raw(self, count: int, kind: str) -> None:
        """A whole answer in one packet, with a head or a length that strict parsers refuse."""
        body = self._picture()
        length = b"Content-Length: %d\r\n" % len(body)
        chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        head, content = {
            "surplus": (length, body + b"\0" * 1000),
            "surplus-answer": (length, body + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
            "surplus-and-close": (length + b"Connection: close\r\n", body + b"\r\n"),
            "chunked-with-length": (length + b"Transfer-Encoding: chunked\r\n", chunks),
            "chunked-with-wrong-length": (b"Content-Length: 3\r\nTransfer-Encoding: Chunked\r\n", chunks),
            "length-twice": (length * 2, body),
            "early-hints": (b"\r\n", b"HTTP/1.1 200 OK\r\n" + length + b"\r\n" + body),
            "two-lengths": (length + b"Content-Length: 5\r\n", body),
        }[kind]
        status = b"103 Early Hints\r\nLink: </a>" if kind == "early-hints" else b"200 OK"
        end = b"" if kind == "early-hints" else b"\r\n"
        self.wfile.write(b"HTTP/1.1 " + status + b"\r\n" + head + end + content)
        self.close_connection = "close" in kind

    def serve_coding(self, count: int, coding: str, number: str, packed: str = "") -> None:
        body = self._picture(number)
        raw = zlib.compressobj(wbits=-15)
        pack = {"gzip": gzip.compress, "zlib": zlib.compress, "raw": lambda data: raw.compress(data) + raw.flush()}
        self._reply(200, pack[packed](body) if packed else body, Content_Encoding=coding)

    def serve_fine_status(self, count: int, status: str, content_range: str = "") -> None:
        body = self._picture()
        size = len(body)
        ranges = {"all": f"bytes 0-{size - 1}/{size}", "part": f"bytes 0-{size - 1}/{size + 50}"}
        self._reply(int(status), body, **({"Content_Range": ranges[content_range]} if content_range else {}))

    def serve_cookie(self, count: int, kind: str) -> None:
        """Whoever brings no cookie is sent away with one: to this address, or to another that wants it."""
        if "seen=yes" in self.headers.get("Cookie", ""):
            return self._reply(200, self._picture())
        target = {"self": "/cookie/self", "other": "/cookie/checked", "checked": "/cookie/checked"}[kind]
        self._reply(302, b"", Location=target, **({} if kind == "checked" else {"Set_Cookie": "seen=yes; Path=/"}))

    def serve_reset(self, count: int, times: str, number: str) -> None:
        """A TCP reset in the middle of the body, for the first `times` requests."""
        body = self._picture(number)
        if count > int(times):
            return self._reply(200, body)
        self._reply(200, body[:100], length=len(body))
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def serve_never(self, count: int, *rest: str) -> None:
        """Takes the request and says nothing."""
        self.server.closing.wait()
        self.close_connection = True

    def serve_drip(self, count: int, *rest: str) -> None:
        """A byte now and then, for ever: no single read is slow."""
        body = self._picture()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self._drip(body)

    def serve_drip_headers(self, count: int) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        self._drip(b"X-Slow: yes\r\n" * 1000)

    def _drip(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            for at in range(len(data)):
                self.wfile.write(data[at : at + 1])
                if self.server.closing.wait(0.05):
                    break
        self.close_connection = True

    def serve_gzip(self, count: int) -> None:
        """Compressed although nobody asked for it: unusual, but honest."""
        self._reply(200, gzip.compress(self._picture()), Content_Encoding="gzip")

    def serve_bomb(self, count: int) -> None:
        self._reply(200, bomb(), Content_Encoding="gzip")

    def serve_brotli(self, count: int) -> None:
        self._reply(200, b"\x8b\x02\x80abc\x03", Content_Encoding="br")

    def serve_endless(self, count: int) -> None:
        """No length, and no end."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.closing.is_set():
                self.wfile.write(b"\xff\xd8" + b"\0" * 65536)
        self.close_connection = True

    def serve_claims_much(self, count: int) -> None:
        self._reply(200, self._picture(), length=10 << 30)
        self.close_connection = True

    def serve_large_png(self, count: int) -> None:
        self._reply(200, large_png(*LARGE), type="image/png")

    def serve_png(self, count: int) -> None:
        self._reply(200, jpeg(format="PNG"), type="image/jpeg")

    def serve_damaged(self, count: int) -> None:
        """A PNG of which some bytes in the middle are others."""
        body = bytearray(jpeg(format="PNG"))
        body[len(body) // 2 : len(body) // 2 + 64] = bytes(64)
        self._reply(200, bytes(body), type="image/png")

    def serve_blank(self, count: int, mode: str) -> None:
        """A picture without a picture."""
        buffer = io.BytesIO()
        Image.new(mode, (90, 70), {"RGB": "white", "L": 30, "RGBA": (20, 80, 20, 0)}[mode]).save(
            buffer, "PNG" if mode == "RGBA" else "JPEG"
        )
        self._reply(200, buffer.getvalue())

    def serve_heic(self, count: int) -> None:
        self._reply(200, b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(1000), type="image/heic")

    def serve_without_end(self, count: int) -> None:
        """A JPEG that lacks its end marker, and nothing else."""
        self._reply(200, self._picture()[:-2])

    def serve_thin(self, count: int) -> None:
        self._reply(200, large_png(3000, 2), type="image/png")

    def serve_crash(self, count: int, number: str) -> None:
        """A good picture with a mark, on which the decoder of tests/fetch/test_crash.py aborts its process."""
        mark = b"CRASH HERE"
        body = self._picture(number)
        self._reply(200, body[:2] + b"\xff\xfe" + struct.pack(">H", 2 + len(mark)) + mark + body[2:])

    def serve_redirect(self, count: int, times: str, number: str) -> None:
        target = f"/ok/{number}" if times == "1" else f"/redirect/{int(times) - 1}/{number}"
        self._reply(302, b"", Location=target)

    def serve_loop(self, count: int, number: str) -> None:
        self._reply(302, b"", Location=f"/loop/{1 - int(number)}")

    def serve_spiral(self, count: int, number: str) -> None:
        """Redirects for ever, never to the same address."""
        self._reply(302, b"", Location=f"/spiral/{int(number) + 1}")

    def serve_lost(self, count: int) -> None:
        self._reply(302, b"")

    def serve_away(self, count: int) -> None:
        """Redirects to the address in the query."""
        self._reply(302, b"", Location=parse_qs(urlsplit(self.path).query)["to"][0])

    def serve_header(self, count: int, name: str, value: str) -> None:
        self._reply(200, self._picture(), **{name: value})

    def serve_garbage(self, count: int) -> None:
        self.wfile.write(b"\x00\x01\x02 this is no HTTP\r\n\r\n")
        self.close_connection = True

    def serve_long_headers(self, count: int) -> None:
        self._reply(200, self._picture(), **{f"X_{index}": "y" * 6000 for index in range(50)})
