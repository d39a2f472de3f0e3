"""Addresses that lead to real servers, as a Service's name does: where a connection ends is decided when it is made."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable


class Fronts:
    """A listening port for each name; `route(name)` says the port behind it, or None: then the connection is reset."""

    def __init__(self, route: Callable[[str], int | None]) -> None:
        self._route = route
        self._listeners: dict[str, socket.socket] = {}

    def url(self, name: str) -> str:
        """The address of `name`, the same one whenever it is asked for."""
        if name not in self._listeners:
            self._listeners[name] = socket.create_server(("127.0.0.1", 0))
            threading.Thread(target=self._accept, args=(name,), daemon=True).start()
        return f"http://127.0.0.1:{self._listeners[name].getsockname()[1]}"

    def close(self) -> None:
        """Closes all of them."""
        for listener in self._listeners.values():
            listener.close()

    def _accept(self, name: str) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listeners[name].accept()
                threading.Thread(target=self._connect, args=(name, client), daemon=True).start()

    def _connect(self, name: str, client: socket.socket) -> None:
        port = self._route(name)
        if port is None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            return
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as server:
            back = threading.Thread(target=_copy, args=(server, client), daemon=True)
            back.start()
            _copy(client, server)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
