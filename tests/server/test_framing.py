"""Requests as they are on the wire: what RFC 9112 calls an error is a 400, and never a prediction or a 500."""

import re
import socket

import pytest

from tests.helpers.colour_model import picture

RED = picture("red", 64, 48)
POST = b"POST /classify HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
SIZED = b"Content-Length: %d\r\n\r\n" % len(RED) + RED
ONE_CHUNK = b"%x\r\n%s\r\n0\r\n\r\n" % (len(RED), RED)


def ask(url: str, sent: bytes, half_close: bool = False) -> tuple[int, bytes]:
    """(status, all that came) for the bytes of a request; the connection must be closed after an error."""
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 20) as client:
        client.sendall(sent)
        if half_close:
            client.shutdown(socket.SHUT_WR)
        got = b""
        while not (b"HTTP/1.1 200" in got and got.endswith(b"}")):
            if not (part := client.recv(65536)):
                break
            got += part
    return int(got.split()[1]), got


MALFORMED = {
    "chunk size": CHUNKED + b"zz\r\n" + RED,
    "chunk size with a sign": CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n",
    "chunk size with 0x": CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n",
    "chunk size beyond 64 bits": CHUNKED + b"f" * 17 + b"\r\nabc",
    "chunk longer than its size": CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n",
    "chunk ended by a bare line feed": CHUNKED + b"3\nabc\n0\n\n",
    "trailer without a colon": CHUNKED + b"3\r\nabc\r\n0\r\nX y\r\n\r\n",
    "both framings": POST + b"Transfer-Encoding: chunked\r\n" + SIZED,
    "two lengths": POST + b"Content-Length: 1\r\n" + SIZED,
    "a list of lengths": POST + b"Content-Length: 3, 4\r\n\r\nabc",
    "length with a sign": POST + b"Content-Length: +3\r\n\r\nabc",
    "length below zero": POST + b"Content-Length: -3\r\n\r\nabc",
    "length with letters": POST + b"Content-Length: 3x\r\n\r\nabc",
    "length with an underscore": POST + b"Content-Length: 1_0\r\n\r\n0123456789",
    "length without digits": POST + b"Content-Length: \r\n\r\nabc",
    "length beyond 64 bits": POST + b"Content-Length: 99999999999999999999999\r\n\r\nabc",
    "unknown transfer coding": POST + b"Transfer-Encoding: gzip\r\n\r\nabc",
    "chunked is not the last": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + ONE_CHUNK,
    "coding before chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + ONE_CHUNK,
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + ONE_CHUNK,
    "coding with a control": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + ONE_CHUNK,
    "coding in HTTP/1.0": b"POST /classify HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + ONE_CHUNK,
    "space before the colon": POST + b"Content-Length : 3\r\n\r\nabc",
    "folded field": POST + b"X: a\r\n b\r\n" + SIZED,
    "field without a colon": POST + b"X\r\n" + SIZED,
    "field without a name": POST + b": x\r\n" + SIZED,
    "field name of other characters": POST + b"X(: x\r\n" + SIZED,
    "bare carriage return": POST + b"X: a\rb\r\n" + SIZED,
    "zero byte": POST + b"X: a\0b\r\n" + SIZED,
    "no host": b"POST /classify HTTP/1.1\r\n" + SIZED,
    "two hosts": POST + b"Host: b\r\n" + SIZED,
    "host with a path": b"POST /classify HTTP/1.1\r\nHost: a/b\r\n" + SIZED,
    "method of other characters": b"P(ST /classify HTTP/1.1\r\nHost: a\r\n" + SIZED,
    "no version": b"POST /classify\r\n\r\n",
    "unknown version": b"POST /classify HTTP/3.0\r\nHost: a\r\n" + SIZED,
    "no target": b"POST  HTTP/1.1\r\nHost: a\r\n" + SIZED,
    "space in the target": b"POST /classify ? HTTP/1.1\r\nHost: a\r\n" + SIZED,
    "control in the target": b"POST /class\x01ify HTTP/1.1\r\nHost: a\r\n" + SIZED,
    "CONNECT": b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600),
    "a picture alone": RED,
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
def test_malformed_requests_are_400(server, sent):
    status, got = ask(server, sent)
    assert status == 400 and got.count(b"HTTP/1.1 4") == 1 and b'"reason": "bad_request"' in got
    assert re.search(rb"(?i)connection: close", got)


@pytest.mark.parametrize(
    "sent",
    [POST + b"Content-Length: %d\r\n\r\n" % (len(RED) + 10) + RED, CHUNKED + ONE_CHUNK[:-5], CHUNKED, POST, POST[:20]],
    ids=["length", "last chunk", "first chunk", "fields", "line"],
)
def test_a_request_that_ends_too_early_is_400(server, sent):
    """Also where the JPEG in it is whole: who knows what else was to come."""
    status, got = ask(server, sent, half_close=True)
    assert status == 400 and b"before it is complete" in got


def test_who_has_sent_all_may_close_that_side(server):
    status, got = ask(server, POST + SIZED, half_close=True)
    assert status == 200 and b'"red"' in got


@pytest.mark.parametrize(
    "sent",
    [
        POST + b"X: " + b"a" * 70_000 + b"\r\n" + SIZED,
        POST + b"X: " + b"a" * 70_000,
        POST + b"X: aaaaaaa\r\n" * 6_000 + SIZED,
        CHUNKED + b"3;" + b"a" * 300_000,
        CHUNKED + b"3\r\nabc\r\n0\r\n" + b"X: aaaaaaa\r\n" * 6_000,
    ],
    ids=["field", "field without an end", "many fields", "chunk extension", "trailers"],
)
def test_heads_without_end_are_431(server, sent):
    assert ask(server, sent)[0] == 431


@pytest.mark.parametrize(
    "sent",
    [
        POST + SIZED,
        CHUNKED + ONE_CHUNK,
        CHUNKED + b"%x;a=b\r\n%s\r\n0\r\nX: y\r\n\r\n" % (len(RED), RED),
        POST + b"Transfer-Encoding: Chunked\r\n\r\n" + ONE_CHUNK,
        b"\r\n" + POST + SIZED,
        b"POST http://a/classify HTTP/1.1\r\nHost: a\r\n" + SIZED,
        b"POST /classify HTTP/1.0\r\n" + SIZED,
        POST + b"Connection: Upgrade, close\r\nUpgrade: websocket\r\n" + SIZED,
        POST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n" + SIZED,
    ],
    ids=["length", "chunks", "extension, trailer", "letters", "empty line", "absolute", "HTTP/1.0", "websocket", "h2c"],
)
def test_unusual_but_right(server, sent):
    status, got = ask(server, sent)
    assert status == 200 and b'"red"' in got
