"""One client's connection: uvicorn's, with a limit in time for each phase, and strict about heads (RFC 9112)."""

import asyncio
import json
import re
from collections.abc import Callable

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

# What is read of a request before its body begins, between two parts of it, and after it (trailers), in bytes.
MAX_HEAD = 64_000
# More than a load balancer keeps its idle connections (60 s), so that it never sends into one that is being closed.
IDLE_SECONDS = 75
# How long an idle connection stays when the server stops: its client may have just sent a request.
LINGER_SECONDS = 2
# A client that reads an answer has this rate, in bytes a second, besides the time to begin.
SLOWEST_READER = 100_000
MAX_CONNECTIONS = 4_000
# Requests that a client sends before it has the answer to an earlier one.
MAX_PIPELINED = 16
_HOST = re.compile(rb"[A-Za-z0-9\-._~%!$&'()*+,;=:\[\]]*")
_LATE = "the request took too long to arrive: send it without pauses"
_TOO_LONG = "the head of the request, or what is between its chunks, is too long"
_CUT_OFF = "the request ends before it is complete: send as many bytes as its Content-Length, or its last chunk"


class Connection(HttpToolsProtocol):
    """What uvicorn leaves open: it waits for heads and bodies without end, and for those who do not read its answers.

    A connection always waits for one of three: for a request to arrive (`seconds` in all, head and body), for its
    answer, which has a limit of its own, or for the next request (IDLE_SECONDS). Whoever holds too many connections
    loses the ones that have waited longest, so that nobody takes a place from others.
    """

    # Those that wait for their client, longest first; of this process.
    _waiting: dict["Connection", None] = {}

    def __init__(
        self, config: Config, server_state: ServerState, seconds: float, most: int, lost: Callable[[], None]
    ) -> None:
        super().__init__(config, server_state, {})
        self._seconds, self._most, self._lost = seconds, most, lost
        self._limit: asyncio.TimerHandle | None = None
        self._write_limit: asyncio.TimerHandle | None = None
        self._receiving = self._stopping = False
        # Whether the application has the request that is being received; whether nothing more is read, after an error.
        self._has_cycle = self._deaf = False
        self._unparsed = self._fields = 0

    def connection_made(self, transport) -> None:
        """Called when the client has connected."""
        super().connection_made(transport)
        # Writing is paused as soon as anything waits for the client, and resumed when it has it all.
        transport.set_write_buffer_limits(high=0)
        self._wait(self._seconds, self._late)
        if len(self.connections) > self._most and self._waiting:
            next(iter(self._waiting)).drop()

    def connection_lost(self, exc) -> None:
        """Called when it is over."""
        self._end_wait()
        self.resume_writing()
        super().connection_lost(exc)
        self._lost()

    def data_received(self, data: bytes) -> None:
        """Called with what the client has sent."""
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        self._unparsed += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(400, "this is no request of HTTP/1.1 (RFC 9112)")
        if self._unparsed > MAX_HEAD and not self.transport.is_closing():
            self._refuse(431, _TOO_LONG)

    def eof_received(self) -> bool:  # type: ignore[override]  # as asyncio has it
        """Called when the client will send no more: it may still wait for its answer."""
        if self._receiving:
            self._refuse(400, _CUT_OFF)
        self._deaf = True
        return not self.transport.is_closing() and self.cycle is not None and not self.cycle.response_complete

    def on_message_begin(self) -> None:
        """Called at the first byte of a request."""
        super().on_message_begin()
        self._receiving, self._has_cycle, self._fields = True, False, 0
        self.scope["state"]["began"] = self.loop.time()
        self._wait(self._seconds, self._late)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called for each field of the head, and for trailers."""
        super().on_header(name, value)
        self._fields += len(name) + len(value) + 4
        if self._fields > MAX_HEAD:
            self._refuse(431, _TOO_LONG)

    def on_headers_complete(self) -> None:
        """Called when the head is complete; the application starts."""
        self._unparsed = 0
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            return  # see _without_upgrade
        if problem := _problem(self.parser.get_method(), self.parser.get_http_version(), self.headers):
            raise ValueError(problem)
        if len(self.pipeline) >= MAX_PIPELINED:
            self.drop()
            raise ValueError("too many requests at once")
        super().on_headers_complete()
        self._has_cycle = True
        if self._stopping:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Called for each part of the body."""
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Called when the whole request is here."""
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self._receiving, self._unparsed = False, 0
        self._settle()

    def on_response_complete(self) -> None:
        """Called when the answer was handed to the transport."""
        super().on_response_complete()
        self._settle()

    def pause_writing(self) -> None:
        """Called when a part of the answer waits for the client to read."""
        super().pause_writing()
        seconds = self._seconds + self.transport.get_write_buffer_size() / SLOWEST_READER
        self._write_limit = self.loop.call_later(seconds, self.drop)

    def resume_writing(self) -> None:
        """Called when the client has read it all."""
        if self._write_limit is not None:
            self._write_limit.cancel()
            self._write_limit = None
        super().resume_writing()

    def shutdown(self) -> None:
        """Called when the server stops: what has begun is answered, and what is on its way."""
        self._stopping = True
        if self.cycle is None or self.cycle.response_complete:
            if not self._receiving:
                self._wait(LINGER_SECONDS, self.drop)
        else:
            self.cycle.keep_alive = False

    def drop(self) -> None:
        """Ends the connection, whatever is under way."""
        self.transport.abort()

    def _refuse(self, status: int, message: str) -> None:
        """Answers for the application, if it has not begun to, and closes; earlier requests get their answers first."""
        self._receiving, self._deaf = False, True
        cycle = self.cycle
        begun = cycle is not None and not cycle.response_complete
        if self.transport.is_closing() or self.pipeline or (begun and not self._has_cycle):
            return  # see _settle
        if not (begun and cycle.response_started):
            reason = STATUS_LINE[status][13:-2].decode().lower().replace(" ", "_")
            body = json.dumps({"error": message, "reason": reason}).encode()
            fields = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + fields + body)
        if begun:
            cycle.disconnected = True
            cycle.message_event.set()
        # What still comes is read for a moment and thrown away: were it not, the client would see a reset, not this.
        self.transport.write_eof()
        self.flow.resume_reading()
        self._wait(LINGER_SECONDS, self.drop)

    def _without_upgrade(self, rest: bytes) -> None:
        """The request asks for another protocol (Java's client for HTTP/2, in each): there is none, so it is this one.

        The parser would take what follows, `rest`, for that protocol; it gets the same request without the wish.
        """
        head = [self.parser.get_method(), b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            if name == b"connection":
                value = b"close" if b"close" in value.lower() else b"keep-alive"
            if name not in (b"upgrade", b"http2-settings"):
                head += [name, b": ", value, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"".join([*head, b"\r\n", rest]))

    def _late(self) -> None:
        if self.flow.read_paused:  # it is the server that reads no further: an earlier request is being answered
            self._wait(self._seconds, self._late)
        elif self._receiving:
            self._refuse(408, _LATE)
        else:
            self.transport.close()

    def _settle(self) -> None:
        """After a request has come, or its answer has gone."""
        if self._receiving:
            return
        if self.cycle.response_complete and not self.pipeline:
            if self._deaf:
                self.transport.close()
                return
            self._wait(LINGER_SECONDS if self._stopping else IDLE_SECONDS, self.transport.close)
        else:
            self._end_wait()

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        self._end_wait()
        self._limit = self.loop.call_later(seconds, then)
        self._waiting[self] = None

    def _end_wait(self) -> None:
        self._waiting.pop(self, None)
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None


def _problem(method: bytes, version: str, headers: list[tuple[bytes, bytes]]) -> str | None:
    """What the parser lets through, and RFC 9112 calls an error; None if it is all right."""
    hosts = [value for name, value in headers if name == b"host"]
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if version not in ("1.0", "1.1") or method == b"CONNECT":
        return "version or method"
    if len(hosts) > 1 or (version == "1.1" and not hosts) or not all(map(_HOST.fullmatch, hosts)):
        return "Host"
    if codings and (codings != [b"chunked"] or version == "1.0"):
        return "Transfer-Encoding"
    return None
