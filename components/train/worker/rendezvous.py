"""The workers of a cluster meet before TensorFlow connects them.

TensorFlow waits for the last of them with Python's lock in its hand: it prints nothing, and no SIGTERM is heard until
the pod's grace is over. With a node that is not there yet that may take many minutes. So the wait is ours, at the
chief's port before TensorFlow opens it, and what is left to TensorFlow takes a second.
"""

import contextlib
import hashlib
import selectors
import socket
import time
from collections.abc import Iterator

from components.train.worker.interruption import StopRequest

_WAIT = "waiting for the other workers"
# Seconds between two looks at SIGTERM, and between two tries to reach the chief.
_POLL = 0.2
_CONNECT_SECONDS = 5
# The first line about missing workers, and each further one.
_FIRST_LINE, _FURTHER_LINES = 10, 60
_LONGEST = 100


def meet(addresses: list[str], index: int, stop: StopRequest) -> None:
    """Returns when each worker of `addresses` (host:port, the chief first) has called it; `index` is this one's place.

    Workers that go and come back meanwhile are waited for again; strangers at the port are not counted.

    Raises:
        Preempted: SIGTERM came.
        OSError: the chief's own port is taken.
    """
    # Workers of another cluster, or of a generation with other addresses, have nothing to do here.
    token = hashlib.sha256(",".join(addresses).encode()).hexdigest()[:32]
    host, _, port = addresses[0].rpartition(":")
    if index == 0:
        _Chief(int(port), len(addresses), token).wait(stop)
    else:
        while not _called_in(host.strip("[]"), int(port), f"{token} {index}\n".encode(), f"{token}\n".encode(), stop):
            stop.check(_WAIT)
            time.sleep(_POLL)


def _called_in(host: str, port: int, hello: bytes, go: bytes, stop: StopRequest) -> bool:
    """Whether the chief was there, and told us to go on."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), _CONNECT_SECONDS) as connection:
        connection.sendall(hello)
        connection.settimeout(_POLL)
        received = b""
        while go.startswith(received):
            stop.check(_WAIT)
            with contextlib.suppress(TimeoutError):
                data = connection.recv(_LONGEST)
                received += data
                if not data or received == go:
                    return received == go
    return False


class _Chief:
    """Takes the calls of the others, and answers all of them once the last has come."""

    def __init__(self, port: int, workers: int, token: str) -> None:
        self._port, self._workers, self._token = port, workers, token
        self._greetings = {f"{token} {index}\n".encode(): index for index in range(1, workers)}
        self._said: dict[socket.socket, bytes] = {}
        self._here: dict[int, socket.socket] = {}

    def wait(self, stop: StopRequest) -> None:
        with self._listening() as (server, selector):
            next_line = time.monotonic() + _FIRST_LINE
            while len(self._here) < self._workers - 1:
                stop.check(_WAIT)
                for key, _ in selector.select(_POLL):
                    if key.fileobj is server:
                        self._accept(server, selector)
                    else:
                        self._hear(key.data, selector)
                if time.monotonic() > next_line:
                    next_line = time.monotonic() + _FURTHER_LINES
                    missing = sorted(set(self._greetings.values()) - set(self._here))
                    print(f"waiting for {len(missing)} of {self._workers} workers: {missing}", flush=True)
            for connection in self._here.values():
                with contextlib.suppress(OSError):  # it has just gone: TensorFlow will say so
                    connection.sendall(f"{self._token}\n".encode())

    @contextlib.contextmanager
    def _listening(self) -> Iterator[tuple[socket.socket, selectors.BaseSelector]]:
        with _server(self._port) as server, selectors.DefaultSelector() as selector:
            server.setblocking(False)
            selector.register(server, selectors.EVENT_READ)
            try:
                yield server, selector
            finally:
                for connection in self._said:
                    connection.close()

    def _accept(self, server: socket.socket, selector: selectors.BaseSelector) -> None:
        with contextlib.suppress(BlockingIOError):
            connection, _ = server.accept()
            connection.setblocking(False)
            self._said[connection] = b""
            selector.register(connection, selectors.EVENT_READ, connection)

    def _hear(self, connection: socket.socket, selector: selectors.BaseSelector) -> None:
        try:
            data = connection.recv(_LONGEST)
        except OSError:
            data = b""
        said = self._said[connection] = self._said[connection] + data
        if data and said in self._greetings:
            self._here[self._greetings[said]] = connection
        elif not data or not any(greeting.startswith(said) for greeting in self._greetings):
            selector.unregister(connection)
            connection.close()
            del self._said[connection]
            self._here = {index: other for index, other in self._here.items() if other is not connection}


def _server(port: int) -> socket.socket:
    """Listens at IPv6 and IPv4, or at IPv4 alone where the node has no IPv6."""
    try:
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    except (OSError, ValueError):
        return socket.create_server(("", port))
