"""Real object stores for tests, on loopback: SeaweedFS (S3) and gcp-storage-emulator (gs).

The fixtures `s3_bucket` and `gs_bucket` of tests/conftest.py give an empty bucket of them.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ACCESS_KEY, SECRET_KEY = "test-access", "test-secret"


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on, below those that the system hands out."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_for(url: str, process: subprocess.Popen, log: Path, seconds: float = 60) -> None:
    """Returns when `url` answers 200; fails with the log if the server ends or never answers."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    pytest.fail(f"{url} does not answer:\n{log.read_text()[-3000:]}")


def start_seaweedfs(folder: Path) -> tuple[subprocess.Popen, str]:
    """A SeaweedFS server with everything in `folder`; returns it and its S3 endpoint."""
    user = {"name": "test", "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]}
    public = {"name": "anonymous", "actions": ["Read:test-public", "List:test-public"]}
    user["actions"] = ["Admin", "Read", "Write", "List", "Tagging"]
    (folder / "s3.json").write_text(json.dumps({"identities": [user, public]}))
    names = ["master.port", "volume.port", "filer.port", "s3.port"]
    ports = free_ports(2 * len(names))
    options = [f"-{name}={port}" for name, port in zip(names, ports)]
    options += [f"-{name}.grpc={port}" for name, port in zip(names, ports[len(names) :])]
    weed = Path(sys.executable).with_name("weed")
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
            + [f"-s3.config={folder}/s3.json", "-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=0"]
            + ["-master.volumeSizeLimitMB=64", "-volume.preStopSeconds=0", *options],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    endpoint = f"http://127.0.0.1:{ports[3]}"
    wait_for(f"{endpoint}/healthz", process, folder / "log")
    return process, endpoint


def start_gcs(folder: Path) -> tuple[subprocess.Popen, str]:
    """gcp-storage-emulator in memory; returns it and its address."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "gcp_storage_emulator", "start"]
    command += ["--in-memory", "--host=127.0.0.1", f"--port={port}"]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    wait_for(f"http://127.0.0.1:{port}/", process, folder / "log")
    return process, f"http://127.0.0.1:{port}"


def point_at_s3(monkeypatch, endpoint: str) -> None:
    """Sets what boto3 and storage read from the environment."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "S3_", "MINIO_"))]:
        if name != "AWS_CA_BUNDLE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    forget_clients()


def forget_clients() -> None:
    """Lets storage read the environment again."""
    from components.shared.storage import storage

    storage._opened.clear()
