"""What hurts servers: hostile uploads, slow clients, more requests than it can take, and being told to stop."""

import collections
import concurrent.futures
import select
import signal
import socket
import threading
import time

import pytest
import requests

from components.serve import local
from tests.serve import hostile, load, processes, web
from tests.serve.model_fixture import picture

RED = picture("red", 640, 480)


@pytest.mark.slow
def test_two_thousand_hostile_uploads(classifier_dir):
    """No crash, no 5xx but 503, and memory that does not grow."""
    with local.running_server(classifier_dir, "--workers", "2") as url:
        before = {worker.pid for worker in processes.workers(url)}
        statuses = collections.Counter(_send_all(url, list(hostile.uploads(400, seed=1))))
        warm = processes.resident(url)
        statuses.update(_send_all(url, list(hostile.uploads(1600, seed=2))))
        grown = processes.resident(url) - warm
        assert {worker.pid for worker in processes.workers(url)} == before
        assert requests.post(f"{url}/classify", data=RED).status_code == 200
    assert sum(statuses.values()) == 2000
    assert set(statuses) <= {200, 400, 413, 415, 422}, statuses
    assert statuses[200] > 200 and statuses[415] > 200 and statuses[422] > 100 and statuses[413] > 20, statuses
    assert grown < 25_000_000, f"{grown / 1e6:.0f} MB more after 1,600 further uploads"


def _send_all(url: str, uploads: list[dict]) -> list[int]:
    session = requests.Session()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda upload: session.post(f"{url}/classify", **upload).status_code, uploads))


def test_nothing_is_lost_while_a_worker_is_replaced(classifier_dir):
    with local.running_server(classifier_dir, "--workers", "2") as url:
        before = {worker.pid for worker in processes.workers(url)}

        def replace():
            victim = processes.workers(url)[0]
            victim.send_signal(signal.SIGTERM)
            victim.wait(30)

        counts = load.run(f"{url}/classify", RED, connections=64, seconds=9, during=replace)
        after = {worker.pid for worker in processes.workers(url)}
    assert counts["lost"] == 0 and set(counts) <= {200, "lost"}, counts
    assert counts[200] > 500
    assert len(after) == 2 and len(after & before) == 1


def test_accepted_requests_are_answered_before_it_stops(classifier_dir):
    """Eight requests wait for a slow picture when SIGTERM comes: all eight are answered, and the server ends with 0."""
    asked, answer = threading.Semaphore(0), threading.Event()

    def slow(handler):
        asked.release()
        assert answer.wait(30)
        web.reply(body=RED)(handler)

    with web.serving({"/slow.jpg": slow}) as pictures, concurrent.futures.ThreadPoolExecutor(8) as pool:
        with local.running_server(classifier_dir, "--workers", "1", "--allow-private-urls") as url:
            send = {"json": {"url": f"{pictures}/slow.jpg"}, "timeout": 60}
            waiting = [pool.submit(requests.post, f"{url}/classify", **send) for _ in range(8)]
            for _ in range(8):
                assert asked.acquire(timeout=30)
            server = processes.master(url)
            server.send_signal(signal.SIGTERM)
            _wait_until_refused(url)
            answer.set()
            answers = [request.result().json() for request in waiting]
    assert [found["predictions"][0]["label"] for found in answers] == ["red"] * 8


def _wait_until_refused(url: str) -> None:
    """Returns when the server takes no more connections."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 1).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.02)
    raise AssertionError("it still takes connections")


def test_beyond_the_queue_there_is_503_and_retry_after(classifier_dir):
    asked, answer = threading.Semaphore(0), threading.Event()

    def slow(handler):
        asked.release()
        assert answer.wait(30)
        web.reply(body=RED)(handler)

    options = ("--workers", "1", "--queue", "2", "--allow-private-urls")
    with web.serving({"/slow.jpg": slow}) as pictures, local.running_server(classifier_dir, *options) as url:
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            waiting = [
                pool.submit(requests.post, f"{url}/classify", json={"url": f"{pictures}/slow.jpg"}) for _ in range(2)
            ]
            for _ in range(2):
                assert asked.acquire(timeout=30)
            refused = requests.post(f"{url}/classify", data=RED)
            # Probes are answered while the queue is full.
            assert requests.get(f"{url}/v2/health/ready").status_code == 200
            answer.set()
            assert [request.result().status_code for request in waiting] == [200, 200]
        assert requests.post(f"{url}/classify", data=RED).status_code == 200
    assert (refused.status_code, refused.headers["Retry-After"], refused.json()["reason"]) == (503, "1", "busy")


@pytest.mark.parametrize(
    "sent", [b"", b"POST /classify HT", b"POST /classify HTTP/1.1\r\nContent-Length: 1000\r\n\r\nabc"]
)
def test_slow_clients_are_hung_up_on(classifier_dir, sent):
    """More silent connections than the server has threads: others are served all the while, and the silent ones end."""
    options = ("--workers", "1", "--queue", "2", "--read-seconds", "2")
    with local.running_server(classifier_dir, *options) as url:
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        silent = [socket.create_connection(address) for _ in range(9 if sent else 40)]
        for connection in silent:
            connection.sendall(sent)
        assert requests.get(f"{url}/v2/health/live", timeout=20).status_code == 200
        for connection in silent:
            connection.settimeout(20)
            while connection.recv(1000):
                pass  # a refusal may come first; what counts is the end
            connection.close()
        assert requests.post(f"{url}/classify", data=RED).status_code == 200


def test_many_large_uploads_at_once_do_not_fill_the_memory(classifier_dir):
    """Sixteen requests that announce 10 MB each are all that a worker holds; a seventeenth is told to come later."""
    with local.running_server(classifier_dir, "--workers", "1") as url:
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        head = b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n"
        held = [socket.create_connection(address) for _ in range(17)]
        for connection in held:
            connection.sendall(head + bytes(1000))
        [refused, *_], _, _ = select.select(held, [], [], 30)
        assert refused.recv(1000).startswith(b"HTTP/1.1 503")
        for connection in held:
            connection.close()
        assert requests.post(f"{url}/classify", data=RED, timeout=30).status_code == 200
