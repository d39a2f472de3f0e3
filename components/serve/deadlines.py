"""A time limit for sending a request. gunicorn's threads would otherwise wait for a slow client without end."""

import socket
import threading
import time

_lock = threading.Lock()
_deadlines: dict[socket.socket, float] = {}


def start(connection: socket.socket, seconds: float) -> None:
    """A request is about to be read from `connection`; it must be complete in `seconds`."""
    with _lock:
        _deadlines[connection] = time.monotonic() + seconds


def end(connection: socket.socket) -> None:
    """The request was read, or the connection is given up."""
    with _lock:
        _deadlines.pop(connection, None)


def body_read(environ: dict) -> None:
    """What a view calls when it has the whole body: from here on only the server is slow."""
    connection = environ.get("gunicorn.socket")
    if connection is not None:
        end(connection)


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
