"""The server as a process on this machine: started, tried, stopped."""

import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
from collections.abc import Iterator
from typing import IO

from components.serve import smoke

# A laptop that is busy with a training takes long to import even little.
START_SECONDS = 180
STOP_SECONDS = 30


class ServerFailed(smoke.SmokeTestError):
    """The server process ended, or did not become ready; the message ends with its error."""


def try_server(classifier_dir: str, name: str, version: str, questions: list[smoke.Question]) -> smoke.SmokeResult:
    """Starts the real server with the classifier, smoke-tests it and stops it.

    Raises:
        ServerFailed: it does not start, or does not stop cleanly.
        SmokeTestError: it answers wrongly.
    """
    with running_server(classifier_dir, "--name", name, "--workers", "1", "--sha256", version) as url:
        return smoke.smoke_test(url, questions, version)


@contextlib.contextmanager
def running_server(classifier_dir: str, *options: str) -> Iterator[str]:
    """The URL of a server on a free port of this machine, ready; it is stopped at the end.

    Raises:
        ServerFailed: it does not start, or does not stop cleanly.
    """
    port = free_port()
    command = [sys.executable, "-m", "components.server", "--model", classifier_dir, "--host", "127.0.0.1"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([*command, "--port", str(port), *options], stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_ready(url, process, log)
            yield url
        finally:
            status = _stop(process)
        if status != 0:
            raise ServerFailed(f"the server ended with status {status}: {_last_line(log)}")


def wait_until_ready(url: str, process: subprocess.Popen, log: IO) -> None:
    """Returns when the server answers. Raises ServerFailed, with the last words in `log`, if it ends or never does."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerFailed(f"the server does not start: {_last_line(log)}")
        try:
            smoke.get_json(f"{url}/v2/health/ready", 5)
            return
        except urllib.error.HTTPError as error:
            raise ServerFailed(f"another program answers at {url}: {error}") from error
        except OSError:
            time.sleep(0.1)
    raise ServerFailed(f"the server is not ready after {START_SECONDS} s: {_last_line(log)}")


def _stop(process: subprocess.Popen) -> int:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _last_line(log: IO) -> str:
    log.seek(0)
    lines = log.read().decode("utf-8", "replace").strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or ["it printed nothing"])[-1].removeprefix("error: ")


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
