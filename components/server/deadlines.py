"""Time limits of a request: for sending it, and for its answer. gunicorn's threads would wait without end."""

import socket
import threading
import time
from typing import Any

_lock = threading.Lock()
_deadlines: dict[Any, float] = {}  # by the connection's socket
_started: dict[Any, float] = {}


def start(connection: socket.socket, seconds: float) -> None:
    """A request is about to be read from `connection`; it must be complete in `seconds`."""
    with _lock:
        _started[connection] = time.monotonic()
        _deadlines[connection] = _started[connection] + seconds


def end(connection: socket.socket) -> None:
    """The request was answered, or the connection is given up."""
    with _lock:
        _deadlines.pop(connection, None)
        _started.pop(connection, None)


def started(environ: dict[str, Any]) -> float:
    """When the request began to be read, in terms of time.monotonic()."""
    with _lock:
        return _started.get(environ.get("gunicorn.socket"), time.monotonic())


def body_read(environ: dict[str, Any]) -> None:
    """What a view calls when it has the whole body: from here on only the server is slow."""
    with _lock:
        _deadlines.pop(environ.get("gunicorn.socket"), None)


def expire() -> None:
    """Stops reading from connections whose time is up: their threads see the end of the stream and go on."""
    now = time.monotonic()
    with _lock:
        late = [connection for connection, deadline in _deadlines.items() if deadline < now]
        for connection in late:
            del _deadlines[connection]
    for connection in late:
        try:
            connection.shutdown(socket.SHUT_RD)
        except OSError:
            pass  # the client was faster
