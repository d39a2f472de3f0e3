"""Fetch against img2dataset, on JPEGs from nginx on loopback; and the CPU time of an image as collections grow.

    python -m benchmarks.fetch --peer /path/to/venv-with-img2dataset/bin/python
    python -m benchmarks.fetch --flat 1000 10000 100000

Both fetch the same images with two processes to 256 pixels, keep the aspect and write WebDataset shards, in turns.
The *steady rate* is the server's own count: requests between the first and the last tenth of a run, by nginx's log.
So neither start-up nor merging counts; wall time and CPU time do count them. Needs nginx; img2dataset 1.47 from PyPI
wants an environment of its own.
"""

import argparse
import contextlib
import getpass
import json
import os
import random
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

_NGINX = """
user {user}; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log warn; worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    log_format times '$msec $status $connection_requests';
    client_body_temp_path {folder}/tmp; proxy_temp_path {folder}/tmp; fastcgi_temp_path {folder}/tmp;
    uwsgi_temp_path {folder}/tmp; scgi_temp_path {folder}/tmp;
    types {{ image/jpeg jpg; }} sendfile on; keepalive_requests 100000; open_file_cache max=1000;
    server {{
        listen 127.0.0.1:{port}; root {folder}/www;
        location / {{ access_log {folder}/access.log times buffer=64k flush=100ms; rewrite ^/[0-9]+/(.*)$ /$1 break; }}
        location = /robots.txt {{ access_log off; return 404; }}
    }}
}}
"""
_OURS = """
import json, sys
from components.fetch.fetcher import fetch_shard
from components.fetch.settings import Limits
from tests.helpers.fetch_settings import fetch_settings
call = json.loads(sys.argv[1])
settings = fetch_settings(image_base=call["base"], image_size=256, requests_per_second=0)
print(fetch_shard("00000-of-00001", call["objects"], call["output"], call["output"], settings, Limits(processes=2)))
"""
_PEER = """
import json, sys
from img2dataset import download
if __name__ == "__main__":
    call = json.loads(sys.argv[1])
    download(url_list=call["objects"], input_format="parquet", url_col="image_uri", output_folder=call["output"],
             output_format="webdataset", image_size=256, resize_mode="keep_ratio", encode_quality=90, processes_count=2,
             thread_count=32, number_sample_per_shard=call["per_shard"], enable_wandb=False)
"""


@dataclass(frozen=True)
class Run:
    """One run's figures: images per second, seconds, CPU seconds per image, MB of the largest process."""

    steady: float
    wall: float
    cpu: float
    memory: float
    requests: int
    connections: int


def main() -> None:
    """Runs what the command line asks for and prints a table."""
    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="benchmark-fetch-"))
    try:
        with Nginx(folder) as nginx:
            _flat(nginx, options.flat) if options.flat else _compare(nginx, options)
    finally:
        shutil.rmtree(folder)


def _compare(nginx: "Nginx", options: argparse.Namespace) -> None:
    nginx.write_pictures(options.distinct, 600, 1500)
    programs = {"this": (sys.executable, _OURS)}
    if options.peer:
        programs["img2dataset"] = (options.peer, _PEER)
    runs: dict[str, list[Run]] = {name: [] for name in programs}
    for number in range(options.rounds):
        for name, (python, script) in programs.items():
            runs[name].append(nginx.measure(python, script, options.count))
            print(f"round {number + 1} {name}: {runs[name][-1]}", flush=True)
    _print_table(runs)
    if options.peer:
        ratios = [ours.steady / theirs.steady for ours, theirs in zip(runs["this"], runs["img2dataset"])]
        print(f"\nsteady rate, this / img2dataset, by round: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")


def _flat(nginx: "Nginx", counts: list[int]) -> None:
    """Small images, so that everything but the decoder shows."""
    nginx.write_pictures(100, 64, 96)
    print("| objects | CPU ms per image | largest process, MB |\n|---:|---:|---:|")
    for count in counts:
        run = nginx.measure(sys.executable, _OURS, count)
        print(f"| {count:,} | {run.cpu * 1000:.2f} | {run.memory:.0f} |", flush=True)


def _print_table(runs: dict[str, list[Run]]) -> None:
    print(
        "\n| | steady images/s | wall s | CPU ms per image | largest process, MB | connections |\n"
        "|---|---:|---:|---:|---:|---:|"
    )
    for name, all_ in runs.items():
        median = {field: statistics.median(getattr(run, field) for run in all_) for field in vars(all_[0])}
        print(
            f"| {name} | {median['steady']:.0f} | {median['wall']:.1f} | {median['cpu'] * 1000:.1f} | "
            f"{median['memory']:.0f} | {median['connections']:.0f} |"
        )


class Nginx:
    """nginx with a folder of images; every image is there under any number of names: `/<number>/<name>`."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        self._folder, self.base = folder, f"http://127.0.0.1:{port}"
        (folder / "www").mkdir()
        (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, port=port, user=getpass.getuser()))
        self._port = port
        self._log = folder / "access.log"

    def __enter__(self) -> "Nginx":
        self._process = subprocess.Popen(["nginx", "-c", self._folder / "nginx.conf", "-e", self._folder / "error.log"])
        while self._process.poll() is None:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self._port)):
                return self
            time.sleep(0.02)
        raise SystemExit((self._folder / "error.log").read_text())

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        self._process.wait()

    def write_pictures(self, count: int, smallest: int, largest: int) -> None:
        """Structure at every scale and some grain: a JPEG decoder has as much to do as with photographs."""
        generator = np.random.default_rng(1)
        for number in range(count):
            width, height = (int(side) for side in generator.integers(smallest, largest, 2))
            pixels = generator.normal(0, 6, (height, width, 3))
            for cells in (3, 9, 27, 81):
                coarse = generator.integers(0, 255, (cells, cells, 3), np.uint8)
                layer = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
                pixels += np.asarray(layer, float) * 0.25
            path = self._folder / "www" / f"{number}.jpg"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=88)
        self._pictures = count

    def measure(self, python: str, script: str, count: int) -> Run:
        """Runs `script` over `count` objects in a process of its own."""
        output, objects = self._folder / "output", self._folder / "objects.parquet"
        shutil.rmtree(output, ignore_errors=True)
        self._write_objects(objects, count)
        offset = self._log.stat().st_size if self._log.exists() else 0
        call = {"objects": str(objects), "output": str(output), "base": self.base, "per_shard": max(1, count // 10)}
        environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1", "PROGRESS_SECONDS": "1000"}
        path = self._folder / "script.py"
        path.write_text(script)
        used, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        with open(self._folder / "output.log", "wb") as log:
            process = subprocess.Popen(
                [python, path, json.dumps(call)], env={**environment, "PYTHONPATH": os.getcwd()}, stdout=log, stderr=log
            )
            peak = _Peak(process.pid)
            status = process.wait()
        if status:
            raise SystemExit((self._folder / "output.log").read_text()[-3000:])
        wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
        time.sleep(0.3)  # nginx writes its log every 100 ms
        return self._run(self._log.read_text()[offset:], wall, cpu / count, peak.stop(), count)

    def _run(self, log: str, wall: float, cpu: float, memory: float, count: int) -> Run:
        lines = [line.split() for line in log.splitlines()]
        times = sorted(float(line[0]) for line in lines if line[1] == "200")
        if len(times) < count:
            raise SystemExit(f"only {len(times)} of {count} pictures were fetched")
        inner = times[len(times) // 10 : -(len(times) // 10)]
        steady = (len(inner) - 1) / (inner[-1] - inner[0])
        return Run(
            round(steady, 1), round(wall, 2), round(cpu, 5), memory, len(times), sum(line[2] == "1" for line in lines)
        )

    def _write_objects(self, path: Path, count: int) -> None:
        order = list(range(count))
        random.Random(1).shuffle(order)
        table = {
            "object_id": [f"o{index:07d}" for index in range(count)],
            "image_uri": [f"{self.base}/{index}/{index % self._pictures}.jpg" for index in order],
            "shard": pa.array([0] * count, pa.int32()),
        }
        pq.write_table(pa.table(table), path)


class _Peak:
    """Largest resident size, in MB, that a process or one of its descendants ever had, by the kernel's account."""

    def __init__(self, pid: int) -> None:
        self._pid, self._largest, self._done = pid, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> float:
        self._done.set()
        self._thread.join()
        return round(self._largest / 1e3, 1)

    def _watch(self) -> None:
        while not self._done.wait(0.5):  # seldom, because it costs the measured ones time
            with contextlib.suppress(psutil.Error, OSError, IndexError):  # processes that are just ending
                root = psutil.Process(self._pid)
                for process in (root, *root.children(recursive=True)):
                    status = Path(f"/proc/{process.pid}/status").read_text()
                    self._largest = max(self._largest, int(status.partition("VmHWM:")[2].split()[0]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="Python interpreter of an environment with img2dataset 1.47")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=2400, help="objects a run")
    parser.add_argument("--distinct", type=int, default=120, help="different pictures among them")
    parser.add_argument("--flat", type=int, nargs="+", metavar="COUNT", help="CPU time per image for so many objects")
    return parser.parse_args()


if __name__ == "__main__":
    main()
