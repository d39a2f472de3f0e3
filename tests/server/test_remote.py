"""URLs that strangers give: what may be fetched, what not, and what a bad server can do."""

import contextlib
import socket
import threading

import pytest
import requests

from components.server import remote
from components.server.errors import RequestError
from tests.fakes import web_server as web
from tests.helpers.colour_model import picture

PICTURE = picture("blue", 320, 240)
LIMIT = 100_000


def fetch(url: str, **options) -> bytes:
    return remote.fetch(url, LIMIT, **{"allow_private": True, "seconds": 1.0} | options)


def test_a_picture_also_by_redirects():
    answers = {"/a.jpg": web.reply(body=PICTURE), "/moved": web.reply(302, Location="/again")}
    answers |= {"/again": web.reply(308, Location="a.jpg"), "/chunked": _chunked}
    with web.serving(answers) as url:
        assert fetch(f"{url}/a.jpg") == fetch(f"{url}/moved") == PICTURE
        assert fetch(f"{url}/chunked") == PICTURE * 2


def _chunked(handler):
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for _ in range(2):
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(PICTURE), PICTURE))
    handler.wfile.write(b"0\r\n\r\n")


@pytest.mark.parametrize(
    "written",
    [
        "{}/No. #5.jpg", "\ufeff{}/a.jpg", "\t{}/a.jpg\n", "{}/a.jpg#page=2", "{}/\u00c9tude \u21168.jpg",
        "{}/moved there",
    ],
)  # fmt: skip
def test_addresses_are_read_as_fetch_reads_them(written):
    answers = dict.fromkeys(["/No.%20%235.jpg", "/a.jpg", "/%C3%89tude%20%E2%84%968.jpg"], web.reply(body=PICTURE))
    answers["/moved%20there"] = web.reply(302, Location="/No. #5.jpg")
    with web.serving(answers) as url:
        assert fetch(written.format(url)) == fetch(written.format(url.replace("http:", "HTTP:"))) == PICTURE


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://localhost:8080/", "http://[::1]/", "http://169.254.169.254/latest/meta-data/",
        "http://168.63.129.16/", "http://10.0.0.1/", "http://0/", "http://2130706433/", "http://[::ffff:10.0.0.1]/",
        "http://100.64.0.1/",
    ],
)  # fmt: skip
def test_private_addresses_are_refused(server, url):
    response = requests.post(f"{server}/classify", json={"url": url})
    assert (response.status_code, response.json()["reason"]) == (400, "private_address")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://example.org/a", "gopher://127.0.0.1/", "/etc/passwd", "example.org", "",
        "http://", "http://:80/", "http://user@example.org/", "http://user:word@example.org/", "http://a b/",
        "http://example.org:99999/", "http://exa\r\nmple.org/", "http://example.org/\r\nX: y",
        "http://ex\u2100mple.org/",
    ],
)  # fmt: skip
def test_urls_that_are_none(server, url):
    response = requests.post(f"{server}/classify", json={"url": url})
    assert (response.status_code, response.json()["reason"]) == (400, "bad_url")


def test_a_redirect_into_a_private_network_is_refused(monkeypatch):
    """The first host is allowed, what it redirects to is not: each hop is checked."""
    real = remote.addresses.resolve
    with web.serving({"/secret": web.reply(body=PICTURE)}) as inside:
        answers = {"/a": web.reply(302, Location=f"{inside}/secret")}
        with web.serving(answers) as outside:
            port = int(outside.rpartition(":")[2])
            monkeypatch.setattr(
                remote.addresses, "resolve", lambda host, to, allow: real(host, to, allow or to == port)
            )
            with pytest.raises(RequestError) as refused:
                remote.fetch(f"{outside}/a", LIMIT)
    assert refused.value.reason == "private_address"


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch):
    """A name that resolves otherwise the second time (DNS rebinding) is not asked a second time."""
    with web.serving({"/a": web.reply(body=PICTURE)}) as url:
        port = url.rpartition(":")[2]
        monkeypatch.setattr(remote.addresses, "resolve", lambda *_: ["127.0.0.1"])
        # The name itself does not resolve: had it been looked up again, this would fail.
        assert remote.fetch(f"http://museum.invalid:{port}/a", LIMIT) == PICTURE


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        (web.reply(404), 422, "answered 404"),
        (web.reply(500), 422, "answered 500"),
        (web.reply(204), 422, "answered 204"),
        (web.reply(302, Location="/here"), 422, "more than 3 redirects"),
        (web.reply(302, Location="file:///etc/passwd"), 400, "no URL"),
        (web.reply(body=bytes(LIMIT + 1)), 413, "more than 100000 bytes"),
        (web.reply(body=b"x" * 10, Content_Length="5000000"), 422, "does not answer properly"),
        (web.reply(body=b"x", Content_Length="nonsense"), None, ""),
        (lambda handler: handler.connection.close(), 422, "does not answer properly"),
        (lambda handler: handler.wfile.write(b"\x00\xff" * 500), 422, "does not answer properly"),
        (lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500 + b"\r\n"), 422, "properly"),
    ],
)
def test_bad_servers(answer, status, message):
    with web.serving({"/here": answer}) as url:
        if status is None:
            assert fetch(f"{url}/here") == b"x"
            return
        with pytest.raises(RequestError) as refused:
            fetch(f"{url}/here")
    assert refused.value.status == status and message in refused.value.message


@pytest.mark.parametrize("when", ["before", "headers", "body"])
def test_slow_servers_cannot_hold_a_worker(when):
    stop = threading.Event()

    def drip(handler):
        if when != "before":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"\r\n" if when == "body" else b"X: "))
        while not stop.wait(0.1):
            if when != "before":
                handler.wfile.write(b"x")
                handler.wfile.flush()

    with web.serving({"/slow": drip}) as url:
        with pytest.raises(RequestError) as refused:
            fetch(f"{url}/slow", seconds=0.5)
        stop.set()
    assert "in time" in refused.value.message


@contextlib.contextmanager
def dripping(record: bytes):
    """The port of a server at every local address that sends the beginning of a TLS record, then byte after byte."""
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(record)
            while not stop.wait(0.05):
                connection.sendall(b"x")

    def accept(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=drip, args=[listener.accept()[0]], daemon=True).start()

    with socket.create_server(("0.0.0.0", 0)) as listener:
        threading.Thread(target=accept, args=[listener], daemon=True).start()
        yield listener.getsockname()[1]
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)


def test_a_handshake_that_never_ends_at_any_of_three_addresses(monkeypatch):
    """Had each address a time of its own, or the handshake none, it would take the threefold, or for ever."""
    asked = []
    connect = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", lambda address, left: asked.append(left) or connect(address, left))
    monkeypatch.setattr(remote.addresses, "resolve", lambda *_: ["127.0.0.1", "127.0.0.2", "127.0.0.3"])
    with dripping(b"\x16\x03\x03\x40\x00") as port:
        with pytest.raises(RequestError, match="in time"):
            fetch(f"https://museum.example:{port}/a", seconds=0.5)
    assert len(asked) == 1 and asked[0] <= 0.5, "no further address once the time is over"


def test_a_name_that_is_looked_up_for_ever(monkeypatch):
    """The resolver cannot be broken off, but is not waited for; and only so many may be under way."""
    answer = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer.wait(60) and [])
    monkeypatch.setattr(remote, "_lookups", threading.BoundedSemaphore(2))
    for _ in range(2):
        with pytest.raises(RequestError, match="in time"):
            fetch("http://slow.example/a", seconds=0.2)
    with pytest.raises(RequestError) as refused:
        fetch("http://slow.example/a", seconds=0.2)
    assert refused.value.status == 503
    answer.set()


def test_a_refused_connection_does_not_tell_the_address():
    with pytest.raises(RequestError, match="refuses the connection") as refused:
        fetch("http://127.0.0.1:1/a")
    assert "127.0.0.1" not in refused.value.message
