"""Connections that take what aiohttp's strict parser refuses, and lose nothing to a surplus of bytes."""

import functools
import re
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

_HEAD_END = re.compile(rb"\n\r?\n")
_BLANK_LINE = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r?\ncontent-length[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\ntransfer-encoding[ \t]*:[^\r\n]*chunked", re.IGNORECASE)
_STATUS = re.compile(rb"HTTP/1\.[01] +(\d\d\d)")
# A head that does not end within so much is the parser's to refuse.
_LONGEST_HEAD = 64 << 10
_WITHOUT_BODY = frozenset({b"204", b"304"})


class Connector(aiohttp.TCPConnector):
    """Keeps connections, but not those on which the server sent more than it had announced: aiohttp would take the
    surplus for the answer to the next request, and one object would get another's image."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory: Any = functools.partial(_Protocol, loop=self._loop)

    async def _get(self, key, traces):
        connection = await super()._get(key, traces)
        while connection is not None and connection.protocol.should_close:
            connection.close()
            connection = await super()._get(key, traces)
        return connection


class _Protocol(ResponseHandler):
    """Shows the parser one answer a request, with one notion of its length (RFC 9112, section 6.3).

    Bytes beyond Content-Length are dropped, and the connection with them. Where the body is chunked a Content-Length
    beside that is taken out, and so is its repetition.
    """

    def __init__(self, loop) -> None:
        super().__init__(loop)
        # Of the answer that is coming in; None once it is complete.
        self._head: bytes | None = None
        # Bytes of its body still to come; None if its end is not known. Before a request nothing is.
        self._left: int | None = 0
        self._surplus = False

    @property
    def should_close(self) -> bool:
        return self._surplus or super().should_close

    def set_response_params(self, **params: Any) -> None:
        """A request begins."""
        self._head, self._left = b"", None
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        if self._head is not None and data:
            data = self._begin(data)
        elif self._left is not None and data:
            data = self._cut(data)
        else:
            return super().data_received(data)
        if data:
            super().data_received(data)

    def _begin(self, data: bytes) -> bytes:
        """What of the answer's first bytes the parser gets: nothing until the head is complete."""
        data = self._head + data if self._head else data
        end = _HEAD_END.search(data)
        if not end:
            self._head = data if len(data) < _LONGEST_HEAD else None
            self._reschedule_timeout()  # a sign of life, though the parser does not see it
            return b"" if self._head is not None else data
        head = data[: end.start()].removesuffix(b"\r")
        status = _STATUS.match(head)
        if status and status[1].startswith(b"1"):  # 100 Continue, 103 Early Hints: the answer follows
            self._head = b""
            return data[: end.end()] + (self._begin(data[end.end() :]) if data[end.end() :] else b"")
        self._head = None
        lengths = [length.strip() for length in _LENGTH.findall(head)]
        if lengths and _CHUNKED.search(head):
            return _LENGTH.sub(b"", head) + _BLANK_LINE + data[end.end() :]
        is_number = len(set(lengths)) == 1 and lengths[0].isdigit() and len(lengths[0]) < 19
        if not is_number or (status and status[1] in _WITHOUT_BODY):
            return data
        self._left = int(lengths[0]) - (len(data) - end.end())
        if len(lengths) == 1 and self._left >= 0:
            return data  # as it should be
        self._left = int(lengths[0])
        head = _LENGTH.sub(b"", head) + b"\r\nContent-Length: " + lengths[0] + _BLANK_LINE
        return head + self._cut(data[end.end() :])

    def _cut(self, data: bytes) -> bytes:
        left = self._left or 0
        if len(data) > left:
            self._surplus = True
            data = data[:left]
        self._left = left - len(data)
        return data
