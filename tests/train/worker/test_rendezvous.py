"""Workers that wait for each other, at real sockets."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from components.train.worker import rendezvous
from components.train.worker.interruption import Preempted, StopRequest

ALONE = """
import os, sys
from components.train.worker.interruption import Preempted, StopRequest
from components.train.worker.rendezvous import meet
with StopRequest() as stop:
    print("waits", flush=True)
    try:
        meet(sys.argv[1].split(","), int(sys.argv[2]), stop)
    except Preempted as error:
        print(error, flush=True)
        os._exit(os.EX_TEMPFAIL)
"""


@pytest.fixture
def addresses() -> list[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return [f"127.0.0.1:{port}", "worker-1.test:1", "worker-2.test:1"]


@pytest.fixture
def call(addresses):
    """Calls `meet` as the worker of an index, in a thread; what still waits is stopped at the end."""
    threads, stops = ThreadPoolExecutor(8), []

    def start(index: int, others: list[str] = addresses) -> Future:
        stops.append(StopRequest())
        future = threads.submit(rendezvous.meet, others, index, stops[-1])
        future.stop = stops[-1]
        return future

    yield start
    for stop in stops:
        stop.requested = True
    threads.shutdown()


def connected(address: str) -> socket.socket:
    host, port = address.rsplit(":", 1)
    return until(lambda: socket.create_connection((host, int(port)), 5))


def until(attempt: Callable[[], object]) -> object:
    """The result of `attempt` once it is neither an error nor nothing."""
    deadline = time.monotonic() + 20
    while True:
        try:
            if result := attempt():
                return result
        except OSError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.05)


def goes_away(waiting: Future) -> None:
    """Lets `waiting` reach the others, if they are there, and stops it: were it too slow, less would be tested."""
    time.sleep(0.7)
    waiting.stop.requested = True
    with pytest.raises(Preempted):
        waiting.result(20)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_all_go_on_when_the_last_has_come(call, order):
    *first, last = order
    waiting = [call(index) for index in first]
    time.sleep(0.5)  # in which nothing must happen
    assert not any(future.done() for future in waiting)
    for future in [*waiting, call(last)]:
        future.result(20)


def test_the_chief_says_who_is_missing(call, addresses, monkeypatch, capfd):
    monkeypatch.setattr(rendezvous, "_FIRST_LINE", 0.3)
    chief, other = call(0), call(2)
    said = until(lambda: capfd.readouterr().out)
    assert said in ("waiting for 1 of 3 workers: [1]\n", "waiting for 2 of 3 workers: [1, 2]\n")
    call(1).result(20)
    chief.result(20), other.result(20)


def test_strangers_are_not_counted(call, addresses):
    """A port scanner, a web browser, and the worker of another cluster."""
    chief, worker = call(0), call(1)
    other = call(2, [addresses[0], "elsewhere:1", "elsewhere:2"])
    with connected(addresses[0]) as browser, connected(addresses[0]) as scanner:
        browser.sendall(b"GET / HTTP/1.1\r\n\r\n")
        browser.settimeout(20)
        assert browser.recv(10) == b"", "sent away"
        time.sleep(0.5)  # in which nothing must happen
        assert not (chief.done() or worker.done() or other.done())
        call(2).result(20)
        chief.result(20), worker.result(20)
        scanner.settimeout(20)
        assert scanner.recv(10) == b""


def test_a_worker_that_went_is_waited_for_again(call):
    chief, lost = call(0), call(1)
    goes_away(lost)
    worker = call(2)
    time.sleep(0.7)  # in which nothing must happen
    assert not chief.done() and not worker.done()
    for future in (call(1), chief, worker):
        future.result(20)


def test_a_chief_that_went_is_called_again(call):
    lost, worker = call(0), call(1)
    goes_away(lost)
    for future in (call(0), call(2), worker):
        future.result(20)


def test_another_server_at_the_chiefs_port_is_no_chief(call, addresses):
    """As gRPC does, it speaks first."""
    with socket.create_server(("127.0.0.1", int(addresses[0].rsplit(":", 1)[1]))) as server:
        worker = call(1)
        for _ in range(2):
            connection, _ = server.accept()
            connection.sendall(b"\0\0\x12\4\0\0\0\0\0")
        time.sleep(0.3)  # in which nothing must happen
        assert not worker.done()


@pytest.mark.parametrize("index", [0, 1])
def test_sigterm_ends_the_wait(addresses, index):
    process = subprocess.Popen(
        [sys.executable, "-c", ALONE, ",".join(addresses), str(index)], cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "waits\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[0] == "stopped while waiting for the other workers; nothing is lost\n"
    assert process.returncode == os.EX_TEMPFAIL


def test_a_stop_request_outlives_what_it_stops():
    """Asked for once, it stays so; and afterwards SIGTERM is whoever's it was before."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with StopRequest() as stop:
        assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, [])
        signal.pthread_kill(stop._thread.ident, signal.SIGTERM)
        until(lambda: stop.requested)
    assert stop.requested and signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    with StopRequest() as stop:
        pass
    assert not stop.requested and "sigterm" not in [thread.name for thread in threading.enumerate()]
