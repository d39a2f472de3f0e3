"""Requests a second, latency, memory and start of the server, against TensorFlow behind Starlette and uvicorn.

    python -m benchmarks.serve [--rounds 3] [--seconds 10]

MobileNetV2 at 224 px with 1,000 classes (random weights: they cost the same), one 640 x 480 JPEG of 60 KB, load by
wrk on loopback, as many workers as cores for each. The servers take turns in every round; the table has the medians
over the rounds. On a busy machine the processor time of a request says more than the rate. Between the servers the
engine and the JPEG decoder are timed by themselves: what a request costs beyond them is the front's, resizing included.
"ours" is what the server chooses by itself; where that is OpenVINO in bfloat16, "ours, LiteRT" stands beside it.
"""

import argparse
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.serve.local import free_port
from components.server.choice import choose
from components.shared import engines
from components.shared.cores import available_cores

STORED, INPUT, CLASSES = 256, 224, 1000
MODEL = Path(tempfile.gettempdir(), "benchmark-serve-mobilenet-v2")
PEERS = {"model.predict": "keras", "concrete function": "function"}
OURS = {"ours": "auto", "ours, LiteRT": "litert"}
# wrk has no option for a body; connections are kept alive.
_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "image/jpeg"
local file = io.open("{picture}", "rb")
wrk.body = file:read("*all")
file:close()
done = function(summary, latency)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  print(string.format("RESULT %d %d %f %f %d", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), failed))
end
"""


@dataclass(frozen=True)
class Load:
    """What wrk measured: requests per second, latencies in milliseconds, requests that failed."""

    rate: float
    p50: float
    p99: float
    errors: int


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds (%(default)s)")
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement (%(default)s)")
    parser.add_argument("--ours-only", action="store_true", help="without TensorFlow's servers")
    options = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("error: wrk is not installed: apt-get install wrk")
    if not (MODEL / "model_card.json").exists():
        subprocess.run([sys.executable, "-m", "benchmarks.serve_peer", "build", str(MODEL)], check=True)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "post.lua")
        script.write_text(_SCRIPT.format(picture=_write_picture(Path(folder, "picture.jpg"))))
        _report(_measure(options, script), options)


def _measure(options: argparse.Namespace, script: Path) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {}
    chosen = choose(str(MODEL), "auto")
    ours = OURS if chosen != "litert" else ["ours"]
    names = [*ours, *([] if options.ours_only else PEERS)]
    for number in range(options.rounds):
        # Each goes first once in a while, so that none always meets a warmer or busier machine.
        for name in names[number % len(names) :] + names[: number % len(names)]:
            for key, value in _measure_one(name, options.seconds, script, chosen).items():
                found.setdefault(name, {}).setdefault(key, []).append(value)
            print(f"round {number + 1}, {name}: {found[name]['rate at 8'][-1]:.1f}/s", flush=True)
    return found


def _measure_one(name: str, seconds: int, script: Path, chosen: str) -> dict[str, float]:
    engine, jpeg = _parts(script.with_name("picture.jpg"), chosen if name == "ours" else "litert")
    with _serving(name) as (url, ready, process):
        _wrk(url, 2, 2, script)
        before = _cpu_seconds(process)
        eight = _wrk(url, 8, seconds, script)
        # What the machine's other users cannot change much: the processor time that a request costs.
        cost = (_cpu_seconds(process) - before) / max(1, eight.rate * seconds) * 1000
        one, memory = _wrk(url, 1, seconds, script), _memory(process)
    return {
        "ready": ready, "rate at 8": eight.rate, "cpu": cost, "p99 at 8": eight.p99, "p50 at 1": one.p50,
        "p99 at 1": one.p99, "errors": eight.errors + one.errors, **memory,
        "engine": engine, "jpeg": jpeg, "front": cost - engine - jpeg,
    }  # fmt: skip


@contextlib.contextmanager
def _serving(name: str) -> Iterator[tuple[str, float, subprocess.Popen]]:
    """(URL, seconds until it answered, process) of a server."""
    port, started = free_port(), time.monotonic()
    workers = str(available_cores())
    if name in OURS:
        command = ["components.server", "--model", str(MODEL), "--engine", OURS[name], "--host", "127.0.0.1"]
        command += ["--port", str(port), "--workers", workers]
    else:
        command = ["uvicorn", "benchmarks.serve_peer:create", "--factory", "--workers", workers, "--port", str(port)]
        command += ["--log-level", "error"]
    peer = {"PEER": PEERS.get(name, ""), "PEER_MODEL": str(MODEL)}
    environment = {**os.environ, **peer, "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen([sys.executable, "-m", *command], env=environment, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        while True:
            try:
                with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=60):
                    break
            except OSError:
                time.sleep(0.02)
        yield f"{url}/classify", time.monotonic() - started, process
    finally:
        process.terminate()
        process.wait()


def _wrk(url: str, connections: int, seconds: int, script: Path) -> Load:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--timeout", "30", "-s", str(script), url]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    requests, microseconds, p50, p99, errors = map(float, re.search(r"RESULT (.*)", printed)[1].split())
    return Load(requests / (microseconds / 1e6), p50 / 1000, p99 / 1000, int(errors))


def _parts(picture: Path, engine: str) -> tuple[float, float]:
    """Milliseconds of processor time of the engine for one image, and of decoding one JPEG: medians of 40."""
    import simplejpeg

    network, data = engines.load(str(MODEL / "model.tflite"), engine), picture.read_bytes()
    pixels = np.zeros(network.shape[1:], np.uint8)
    times: dict[str, list[float]] = {"engine": [], "jpeg": []}
    for _ in range(40):
        # Of the process: OpenVINO computes in threads of its own.
        started = time.process_time()
        network.run(pixels)
        between = time.process_time()
        simplejpeg.decode_jpeg(data, "RGB")
        times["engine"].append((between - started) * 1000)
        times["jpeg"].append((time.process_time() - between) * 1000)
    return statistics.median(times["engine"]), statistics.median(times["jpeg"])


def _processes(process: subprocess.Popen) -> list[Path]:
    """The folders in /proc of a server's processes."""
    found = [Path("/proc", str(process.pid))]
    for folder in found:
        children = " ".join(file.read_text() for file in folder.glob("task/*/children"))
        found += [Path("/proc", pid) for pid in children.split()]
    return found


def _cpu_seconds(process: subprocess.Popen) -> float:
    ticks = 0
    for folder in _processes(process):
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _memory(process: subprocess.Popen) -> dict[str, float]:
    """MB of the service: resident (summed over processes) and proportional (shared pages counted once)."""
    found = {"rss": 0.0, "pss": 0.0}
    for folder in _processes(process):
        sizes = (folder / "smaps_rollup").read_text()
        for name in found:
            found[name] += int(re.search(rf"^{name}:\s+(\d+) kB", sizes, re.I | re.M)[1]) * 1024 / 1e6
    return found


def _write_picture(path: Path) -> Path:
    """A 640 x 480 JPEG of about 60 KB: smooth shapes with as much noise as makes that size."""
    from components.shared.imaging import encode_jpeg

    rows, columns = np.mgrid[0:480, 0:640] / 60
    smooth = (
        np.stack([np.sin(rows + shift) + np.cos(columns * (1 + shift)) for shift in (0, 0.7, 1.9)], axis=-1) * 50 + 128
    )
    for noise in range(2, 60):
        pixels = smooth + np.random.default_rng(1).normal(0, noise, smooth.shape)
        data = encode_jpeg(np.clip(pixels, 0, 255).astype(np.uint8), 85)
        if len(data) >= 60_000:
            break
    path.write_bytes(data)
    return path


def _report(found: dict[str, dict[str, list[float]]], options: argparse.Namespace) -> None:
    print(
        f"\nmedians of {options.rounds} rounds of {options.seconds} s, {available_cores()} cores, "
        f"load average {os.getloadavg()[0]:.1f}\n"
    )
    columns = [
        "rate at 8",
        "cpu",
        "engine",
        "jpeg",
        "front",
        "p99 at 8",
        "p50 at 1",
        "p99 at 1",
        "rss",
        "pss",
        "ready",
        "errors",
    ]
    heads = [
        "requests/s at 8",
        "CPU, ms/request",
        "engine",
        "JPEG",
        "front",
        "p99 at 8, ms",
        "p50 at 1, ms",
        "p99 at 1, ms",
        "RSS, MB",
        "PSS, MB",
    ]
    print(f"| server | {' | '.join(heads)} | ready, s | errors | ours, times the rate | ours, times the CPU |")
    print("|---" * (len(columns) + 3) + "|")
    for name, values in found.items():
        medians = [f"{statistics.median(values[column]):.1f}" for column in columns]
        faster = [mine / max(theirs, 0.1) for mine, theirs in zip(found["ours"]["rate at 8"], values["rate at 8"])]
        cheaper = [theirs / mine for mine, theirs in zip(found["ours"]["cpu"], values["cpu"])]
        if name not in OURS:
            medians[2:5] = ["", "", ""]
        ratios = f"{statistics.median(faster):.1f} | {statistics.median(cheaper):.1f}"
        print(f"| {name} | {' | '.join(medians)} | {ratios} |")


if __name__ == "__main__":
    main()
