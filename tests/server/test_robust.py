"""What hurts servers: hostile uploads, slow clients, more requests than it can take, and being told to stop."""

import collections
import concurrent.futures
import os
import select
import signal
import socket
import threading
import time

import pytest
import requests

from components.serve import local
from tests.fakes import web_server as web
from tests.helpers import hostile, load, processes
from tests.helpers.colour_model import picture

RED = picture("red", 640, 480)


@pytest.mark.slow
def test_two_thousand_hostile_uploads(classifier_dir):
    """To every protocol: no crash, no 5xx but 503, and memory that does not grow.

    With glibc's own settings of malloc it grew by 40 to 150 MB, with the server's by 0 to 9 MB (ten runs).
    """
    with local.running_server(classifier_dir, "--workers", "2", "--name", "colours") as url:
        _wait_for_workers(url, 2)
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
        return list(pool.map(lambda upload: session.post(url + upload[0], **upload[1]).status_code, uploads))


def test_a_scan_bomb_is_refused(classifier_dir):
    """800,000 passes over a megapixel would take a worker ten minutes."""
    with local.running_server(classifier_dir, "--workers", "1") as url:
        refused = requests.post(f"{url}/classify", data=hostile.scan_bomb(9_900_000), timeout=60)
        assert refused.status_code in (413, 422), refused.text
        assert requests.post(f"{url}/classify", data=RED).status_code == 200


@pytest.mark.slow
def test_large_pictures_at_once_are_decoded_one_at_a_time(classifier_dir):
    """PNGs of 20 megapixels, 60 MB each when decoded: the worker never holds more than copies of one."""
    bomb = hostile.large_png(20)
    with local.running_server(classifier_dir, "--workers", "1") as url:
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            sent = [pool.submit(requests.post, f"{url}/classify", data=bomb, timeout=60) for _ in range(24)]
            statuses = {request.result().status_code for request in sent}
        [worker] = processes.workers(url)
        peak = processes.peak(worker.pid)
    # Those that a busy machine does not get to in time are told so.
    assert 200 in statuses and statuses <= {200, 503}
    assert peak < 600_000_000, f"{peak / 1e6:.0f} MB"


@pytest.mark.slow
def test_nothing_is_lost_while_workers_are_replaced(classifier_dir):
    """LOAD_SECONDS=60 makes it the full minute."""
    seconds = float(os.environ.get("LOAD_SECONDS", 9))
    with local.running_server(classifier_dir, "--workers", "2") as url:
        _wait_for_workers(url, 2)
        before = {worker.pid for worker in processes.workers(url)}

        def replace():
            for victim in processes.workers(url):
                victim.send_signal(signal.SIGTERM)
                victim.wait(30)
                _wait_for_workers(url, 2)

        counts = load.run(f"{url}/classify", RED, connections=64, seconds=seconds, during=replace)
        after = {worker.pid for worker in processes.workers(url)}
    assert counts["lost"] == 0 and set(counts) <= {200, "lost"}, counts
    assert counts[200] > 500
    assert len(after) == 2 and not after & before


def _wait_for_workers(url: str, number: int) -> None:
    _wait_until(lambda: len(processes.workers(url)) == number)


def test_nothing_that_was_accepted_is_lost_when_the_server_is_stopped_under_load(classifier_dir):
    """SIGTERM to the first process, 64 connections asking all the while: each has every answer, then is refused."""
    with local.running_server(classifier_dir, "--workers", "2") as url:
        server = processes.master(url)
        counts = load.run(
            f"{url}/classify", RED, connections=64, seconds=6, during=lambda: server.send_signal(signal.SIGTERM)
        )
    assert set(counts) == {200, "refused"}, counts
    assert counts[200] > 200 and counts["refused"] == 64, counts


def test_connections_that_come_at_once_are_spread_over_the_workers(classifier_dir):
    """Whoever woke first took them all: of eight kept-alive connections one worker of two often held eight."""
    with local.running_server(classifier_dir, "--workers", "2") as url:
        # The second worker may still be starting.
        _wait_until(lambda: min(_held(url, 8)) > 0)
        spread = [_held(url, 8) for _ in range(5)]
    assert all(sum(counts) == 8 for counts in spread)
    assert sum(min(counts) for counts in spread) >= 10, spread


def _held(url: str, number: int) -> list[int]:
    """How many of `number` connections that come at once each worker holds; they are closed again."""
    port = int(url.rpartition(":")[2])
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(number)]
    for connection in held:
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n")
    assert all(connection.recv(1000).startswith(b"HTTP/1.1 200") for connection in held)
    counts = [processes.connections(worker, port) for worker in processes.workers(url)]
    for connection in held:
        connection.close()
    _wait_until(lambda: not any(processes.connections(worker, port) for worker in processes.workers(url)))
    return counts


def _wait_until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_killed_worker_is_not_waited_for(classifier_dir):
    with local.running_server(classifier_dir, "--workers", "2") as url:
        victim = processes.workers(url)[0]
        victim.kill()
        victim.wait(30)
        for _ in range(20):
            assert requests.post(f"{url}/classify", data=RED).status_code == 200
        _wait_for_workers(url, 2)


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
        # The places are free as soon as the server has noticed.
        _wait_until(lambda: requests.post(f"{url}/classify", data=RED, timeout=30).status_code == 200)
