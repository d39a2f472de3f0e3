"""http:// and https://: addresses as people write them, and servers as they are."""

import base64
import gzip
import hashlib
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

from components.shared.storage import storage

DATA = "object_id,culture\n1,Café\n".encode() * 50


@contextmanager
def server(headers: dict[str, str] | None = None, data: bytes = DATA, status: int = 200) -> Iterator[tuple[str, list]]:
    """Answers every GET alike; gives its address and the (path, headers) that were asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, dict(self.headers)))
            self.send_response(status if self.headers["Range"] or status != 206 else 200)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            if "Content-Length" not in (headers or {}):
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            """Quiet."""

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{found.server_port}", asked
    finally:
        found.shutdown()
        found.server_close()
        thread.join()


@pytest.mark.parametrize("name", ["list 2.csv", "müseum/Ägypten.csv", "a%20b.csv", "x.csv?key=a b&c=ü", "x.csv "])
def test_an_address_is_read_as_a_person_writes_it(tmp_path: Path, name: str) -> None:
    with server() as (host, asked):
        storage.download(f"http://{host}/{name}", str(tmp_path / "x"))
    assert (tmp_path / "x").read_bytes() == DATA
    assert unquote(asked[0][0]) == f"/{unquote(name).strip()}" and asked[0][0].isascii() and " " not in asked[0][0]


def test_a_password_in_the_address_is_sent_and_not_shown() -> None:
    with server() as (host, asked):
        assert storage.read_bytes(f"http://me:p%40ss@{host}/x.csv") == DATA
    assert asked[0][1]["Authorization"] == "Basic " + base64.b64encode(b"me:p@ss").decode()


@pytest.mark.parametrize(
    "headers, data, status",
    [
        ({"Content-Range": f"bytes 0-{len(DATA) - 1}/*"}, DATA, 206),
        ({}, DATA, 206),
        ({"Content-Range": "bytes nonsense"}, DATA, 206),
        ({"Content-MD5": "no base64!"}, DATA, 200),
        ({"Content-MD5": hashlib.md5(DATA).hexdigest()}, DATA, 200),
        ({"Content-MD5": base64.b64encode(hashlib.md5(DATA).digest()).decode()}, DATA, 200),
        ({"Content-Encoding": "gzip"}, gzip.compress(DATA, mtime=0), 200),
        ({"Content-Encoding": "deflate"}, zlib.compress(DATA), 200),
        ({}, DATA, 203),
    ],
)
def test_servers_that_answer_oddly_are_read(tmp_path: Path, headers: dict, data: bytes, status: int) -> None:
    with server(headers, data, status) as (host, _):
        storage.download(f"http://{host}/x.csv", str(tmp_path / "x"))
        assert storage.read_bytes(f"http://{host}/x.csv") == DATA
    assert (tmp_path / "x").read_bytes() == DATA


@pytest.mark.parametrize("place", ["127.0.0.1:port", "[::1", "", "127.0.0.1:99999"])
def test_what_is_no_address_is_said_at_once(place: str) -> None:
    started = time.monotonic()
    with pytest.raises(storage.StorageError, match="is no address") as caught:
        storage.read_bytes(f"http://{place}/x")
    assert time.monotonic() - started < 5 and not isinstance(caught.value, storage.TransientStorageError)
