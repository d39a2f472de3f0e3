"""Questions to a web API: the limit on the rate, pauses, proxies, and what is said of us and of the key."""

import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from components.query import web
from components.query.selection import Settings
from components.shared.errors import PipelineError, TransientError
from tests.fakes.museums import met_objects, serve

OBJECT = "/public/collection/v1/objects/{}"
EVERYTHING = met_objects({number: f"http://m/{number}.jpg" for number in range(100)})


def test_a_limit_on_the_rate_holds_over_all_threads() -> None:
    """The moments are handed out one interval apart, whoever asks: what The Met asks for is 80 a second."""
    with serve(EVERYTHING) as (met, address):
        api = web.Api(address, "The Met", requests_per_second=200, connections=4)
        started = time.monotonic()
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda number: api.get(OBJECT.format(number)), range(41)))
        assert time.monotonic() - started >= 40 / 200
        assert len(met.requests) == 41


def test_repeated_requests_keep_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "BACKOFF_SECONDS", 0.0)
    with serve(lambda *_: (503, {}, "")) as (met, address):
        api = web.Api(address, "The Met", requests_per_second=20)
        with pytest.raises(TransientError, match="The Met answers 503 after 6 tries; try again later"):
            api.get("/x")
        assert len(met.requests) == 6 and met.moments[-1] - met.moments[0] >= 4.5 / 20


def test_a_429_stops_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "BACKOFF_SECONDS", 0.01)
    with serve(EVERYTHING) as (met, address):
        met.faults[OBJECT.format(1)] = [(429, {"Retry-After": "2"}, "slow down")]
        api = web.Api(address, "The Met", requests_per_second=1000, connections=2)
        first = threading.Thread(target=api.get, args=(OBJECT.format(1),))
        first.start()
        while api._next < time.monotonic() + 0.5:  # until the answer has arrived
            assert first.is_alive()
        api.get(OBJECT.format(2))
        first.join()
        assert len(met.requests) == 3 and met.moments[1] - met.moments[0] >= 1.9


def test_a_pause_of_hours_is_not_waited_for() -> None:
    with serve(lambda *_: (429, {"Retry-After": "7200"}, "")) as (met, address):
        with pytest.raises(TransientError, match="answers 429: try again in 120 minutes"):
            web.Api(address, "The Met", requests_per_second=100).get("/x")
        assert len(met.requests) == 1


def test_a_key_is_in_no_log_when_the_connection_breaks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture
) -> None:
    """urllib3 would warn: Retrying ... after connection broken by ...: /?api_key=..."""
    monkeypatch.setattr(web, "BACKOFF_SECONDS", 0.0)
    fine = b"HTTP/1.1 200 OK\r\n"
    answers = [b"", fine + b"Content-Length: 99\r\n\r\n{", fine + b": no header\r\nX", b"nonsense\r\n"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_answer_badly, args=(listener, answers), daemon=True).start()
        api = web.Api(f"http://127.0.0.1:{listener.getsockname()[1]}", "Flickr", requests_per_second=1000)
        said = ""
        with caplog.at_level(logging.INFO):
            for _ in answers:  # one of them is an answer of a kind: it ends the tries
                with pytest.raises(PipelineError, match="does not answer") as caught:
                    api.get("/", api_key="SECRET")
                said += str(caught.value)
    captured = capfd.readouterr()
    assert "SECRET" not in caplog.text + captured.out + captured.err + said


def _answer_badly(listener: socket.socket, answers: list[bytes]) -> None:
    for number in range(100):
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(65536)
            connection.sendall(answers[number % len(answers)])


def test_the_contact_is_named() -> None:
    with serve(EVERYTHING) as (met, address):
        web.Api(address, "The Met", 100, contact="mailto:you@museum.test").get(OBJECT.format(1))
        web.Api(address, "The Met", 100).get(OBJECT.format(1))
        agents = [headers["User-Agent"] for _, _, headers in met.requests]
    assert agents == ["museum-classifier/1 (+mailto:you@museum.test)", "museum-classifier/1"]
    with pytest.raises(PipelineError, match="contact=.*one line of ASCII"):
        Settings(contact="a\r\nX-Evil: 1")


@pytest.mark.parametrize("scheme", ["", "http://user:secret@"])
def test_a_proxy_is_used(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """Asked for http://api.museum.test, which does not exist: the server that answers is the proxy."""
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serve(lambda path, _: (200, {}, {"path": path})) as (proxy, address):
        monkeypatch.setenv("http_proxy", scheme + address.removeprefix("http://"))
        assert web.Api("http://api.museum.test", "The Met", 100).get("/x")
        path, _, headers = proxy.requests[0]
        assert headers["Host"] == "api.museum.test"
        assert ("proxy-authorization" in {name.lower() for name in headers}) == bool(scheme)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert web.Api(address, "The Met", 100).get("/direct") == {"path": "/direct"}
        assert "proxy-authorization" not in {name.lower() for name in proxy.requests[1][2]}
