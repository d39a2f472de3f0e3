"""What comes back from a URL that is not, or not yet, the server that was meant."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from components.artifacts.dataset import Example
from components.serve import smoke
from components.serve.smoke import Question, SmokeTestError
from tests.fakes.fronts import Fronts

DIGEST = "ab" * 32
EXAMPLE = Example("object-1", "red", 0, b"a picture", 1, 1, "")
QUESTION = Question(EXAMPLE, {"red": 0.6, "green": 0.39, "blue": 0.01})


def answer(version: str = DIGEST[:12], label: str = "red", probability: float = 0.6) -> bytes:
    return json.dumps({"version": version, "predictions": [{"label": label, "probability": probability}]}).encode()


@contextmanager
def answering(*answers: tuple[int, bytes, int | None]):
    """A server that gives these answers (status, body, Content-Length if it lies) in turn, the last one ever after."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            status, body, length = answers[min(len(seen), len(answers) - 1)]
            seen.append(status)
            self.send_response(status)
            self.send_header("Content-Length", str(length or len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    seen: list[int] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("body", "length", "message"),
    [
        (b"{}", None, "no classifier: its answer has no version or label"),
        (b"[1, 2]", None, "no classifier"),
        (b"<html>", None, "no classifier"),
        (b'{"version": "1", "predictions": []}', None, "no classifier"),
        (answer(), 500, "does not answer for object-1: .*IncompleteRead"),
        (answer(version=""), None, r"version \(none\), not abababababab"),
        (answer(version="cdcdcdcdcdcd"), None, "version cdcdcdcdcdcd, not abababababab"),
        (answer(label="purple"), None, r"1 of 1 test pictures: object-1 is purple \(0.60\).* red \(0.60\)"),
        (answer(label="green", probability=0.39), None, "otherwise than the evaluation"),
        (answer(probability=0.55), None, "otherwise than the evaluation"),
    ],
)
def test_what_is_no_right_answer_says_so(body, length, message):
    with answering((200, body, length)) as (url, _):
        with pytest.raises(SmokeTestError, match=message):
            smoke.smoke_test(url, [QUESTION], DIGEST)


def test_another_processor_may_round_otherwise():
    close = Question(EXAMPLE, {"red": 0.5001, "green": 0.4999})
    with answering((200, answer(label="green", probability=0.5002), None)) as (url, _):
        result = smoke.smoke_test(url, [close], DIGEST)
    assert (result.pictures, result.right) == (1, 0)


def test_a_full_queue_is_waited_for_and_a_broken_gateway_is_not(monkeypatch):
    monkeypatch.setattr(smoke, "BUSY_SECONDS", 0)
    busy = (503, b'{"error": "busy"}', None)
    with answering(busy, busy, (200, answer(), None)) as (url, seen):
        assert smoke.smoke_test(url, [QUESTION], DIGEST).right == 1
        assert seen == [503, 503, 200]
    with answering(busy) as (url, seen):
        with pytest.raises(SmokeTestError, match="answers 503 for object-1"):
            smoke.smoke_test(url, [QUESTION], DIGEST)
        assert len(seen) == smoke.BUSY_TRIES
    with answering((502, b"bad gateway", None)) as (url, seen):
        with pytest.raises(SmokeTestError, match="answers 502 for object-1: bad gateway"):
            smoke.smoke_test(url, [QUESTION], DIGEST)
        assert len(seen) == 1


def test_the_test_begins_when_the_address_leads_to_the_version_for_good():
    """Refused, then the old version, then both in turn, then the new one: as DNS and endpoints find out one by one."""
    old, new = (200, answer(version="cdcdcdcdcdcd"), None), (200, answer(), None)
    with answering(old, old, new, new, old, new) as (url, seen):
        port, opens = int(url.rpartition(":")[2]), time.monotonic() + 0.3
        fronts = Fronts(lambda name: port if time.monotonic() > opens else None)
        try:
            result = smoke.try_service(fronts.url("colours"), [QUESTION], DIGEST, pause=0.01)
        finally:
            fronts.close()
    assert result.right == 1
    assert len(seen) == 5 + smoke.IN_A_ROW + 1


def test_a_version_that_never_comes():
    with answering((200, answer(version="cdcdcdcdcdcd"), None)) as (url, _):
        with pytest.raises(SmokeTestError, match=r"version cdcdcdcdcdcd, not abababababab \(waited 0 s\)"):
            smoke.try_service(url, [QUESTION], DIGEST, seconds=0.1, pause=0.01)
    nowhere = "http://127.0.0.1:1"
    with pytest.raises(SmokeTestError, match="does not answer for object-1: .*refused"):
        smoke.try_service(nowhere, [QUESTION], DIGEST, seconds=0.1, pause=0.01)
