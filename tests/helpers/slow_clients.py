"""Connections that hold a server up: many at once, each of which sends or reads next to nothing."""

import contextlib
import resource
import socket
import time

KINDS = ("silent", "head", "body", "large body", "chunks", "answer")
_POST = b"POST /classify HTTP/1.1\r\nHost: a\r\n"
_BEGINNINGS = {
    "silent": b"",
    "head": _POST + b"X: ",
    "body": _POST + b"Content-Length: 60000\r\n\r\n",
    "large body": _POST + b"Content-Length: 10000000\r\n\r\n",
    "chunks": _POST + b"Transfer-Encoding: chunked\r\n\r\n",
    "answer": b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 16,
}
_DRIPS = {"head": b"a", "body": b"a", "large body": b"a", "chunks": b"1\r\na\r\n"}


@contextlib.contextmanager
def connected(url: str, kind: str, number: int):
    """`number` connections of one of KINDS; yields a function that has each send one more piece."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(_client(url, kind)) for _ in range(number)]

        def drip() -> None:
            for client in clients:
                with contextlib.suppress(OSError):  # refused meanwhile
                    client.send(_DRIPS.get(kind, b""))

        yield drip


def _client(url: str, kind: str) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", int(url.rpartition(":")[2])))
    client.send(_BEGINNINGS[kind])
    client.setblocking(False)
    return client


def ask(url: str, request: bytes) -> tuple[int, float]:
    """(status, seconds) of `request` over a connection of its own."""
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 30) as client:
        client.sendall(request)
        answer = client.recv(65536)
    return int(answer.split()[1]), time.perf_counter() - started
