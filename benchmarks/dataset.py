"""Speed and memory of convert and assemble, beside what others write TFRecords with.

    python -m benchmarks.dataset [--records 3000] [--scale 1000,10000,100000] [--hashes 1000000]
        [--assemble 1000,10000] [--img2dataset PYTHON]

Rates are per second of CPU time on one core, medians of interleaved rounds, so that a busy machine disturbs them less.
Peers: `tf.io.TFRecordWriter` with `tf.train.Example`, which is what TFX's and TFDS's writers call for each record; and
img2dataset's tfrecord output, if the Python of an environment that has it (and tensorflow, tensorflow-io) is given: it
writes the bytes as they come, and its figure includes fetching them from a server on this machine.
"""

import argparse
import functools
import hashlib
import http.server
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
from rich.console import Console
from rich.table import Table

from components.artifacts import records
from components.assemble.assembler import assemble_dataset
from components.assemble.duplicates import candidate_pairs
from components.assemble.search import close_pairs
from components.convert.converter import convert_shard
from components.shared import hashing
from tests.helpers.image_shards import Item, drawing, settings, write_shard


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=3000, help="records of 30 KB for the comparison with peers")
    parser.add_argument(
        "--scale", default="1000,10000,100000", help="numbers of small images for the flatness of convert"
    )
    parser.add_argument("--hashes", type=int, default=1_000_000, help="hashes for the duplicate search; 0 for none")
    parser.add_argument("--assemble", default="1000,10000", help="numbers of pictures for the whole assemble step")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--img2dataset", default="", metavar="PYTHON", help="interpreter that has img2dataset")
    parser.add_argument("--part", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part.split(":")[0]](int(options.part.split(":")[1]))))
        return
    console = Console()
    console.print(_peers(options))
    console.print(_scale([int(number) for number in options.scale.split(",")]))
    if options.hashes:
        console.print(_search(options.hashes))
    if options.assemble:
        console.print(_assemble([int(number) for number in options.assemble.split(",")]))


def _peers(options: argparse.Namespace) -> Table:
    with tempfile.TemporaryDirectory() as folder:
        jpegs = _pictures(options.records, 30_000)
        images = Path(folder, "images")
        write_shard(images, "0", [Item(f"{k:06d}", "a", "train", data) for k, data in enumerate(jpegs)], ["a"])
        tasks: dict[str, Callable[[], None]] = {
            "records.py: encode, checksum, write": lambda: _write_ours(jpegs, f"{folder}/ours"),
            "convert step: read tar, check, hash, write": lambda: _convert(images, Path(folder, "converted")),
            "tf.train.Example, tf.io.TFRecordWriter": lambda: _write_tensorflow(jpegs, f"{folder}/theirs"),
        }
        rates = _rates(tasks, len(jpegs), options.rounds)
        if options.img2dataset:
            rates["img2dataset, tfrecord (fetch included)"] = _img2dataset(options.img2dataset, jpegs, Path(folder))
    table = Table("writer", "records/s of CPU", "ratio to tf.io", title=f"{len(jpegs)} JPEGs of 30 KB")
    base = rates["tf.train.Example, tf.io.TFRecordWriter"]
    for name, rate in rates.items():
        table.add_row(name, f"{rate:,.0f}", f"{rate / base:.2f}")
    return table


def _rates(tasks: dict[str, Callable[[], None]], count: int, rounds: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            started = time.process_time()
            task()
            seconds[name].append(time.process_time() - started)
    return {name: count / statistics.median(values) for name, values in seconds.items()}


def _pictures(count: int, size: int) -> list[bytes]:
    """Different JPEGs of about `size` bytes: 50 drawings with noise, and something of their own behind the end."""
    rng = np.random.default_rng(0)
    side = 256 if size > 10_000 else 96
    found = []
    for seed in range(50):
        pixels = np.asarray(drawing(seed, (side, side)), np.int16)
        noisy = (pixels + rng.normal(0, 14, pixels.shape)).clip(0, 255).astype(np.uint8)
        qualities = range(30, 98, 3)
        found.append(
            min((simplejpeg.encode_jpeg(noisy, quality=q) for q in qualities), key=lambda d: abs(len(d) - size))
        )
    return [found[k % 50] + b"%08d" % k for k in range(count)]


def _write_ours(jpegs: list[bytes], path: str) -> None:
    with records.RecordWriter(path) as writer:
        for k, data in enumerate(jpegs):
            digest = hashlib.sha256(data).hexdigest()
            writer.write(records.encode(records.Record(f"{k:06d}", "a", 0, data, 256, 256, digest, digest)))


def _write_tensorflow(jpegs: list[bytes], path: str) -> None:
    import tensorflow as tf

    def strings(value: bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    def integers(value: int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    with tf.io.TFRecordWriter(path) as writer:
        for k, data in enumerate(jpegs):
            digest = hashlib.sha256(data).hexdigest().encode()
            values = (data, b"jpeg", 256, 256, 0, b"a", b"%06d" % k, digest, digest)
            feature = {name: (integers if isinstance(value, int) else strings)(value)
                       for name, value in zip(records.SCHEMA, values)}  # fmt: skip
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


def _convert(images: Path, folder: Path) -> None:
    convert_shard("0", str(images), str(folder), str(folder), str(folder / "index"))


def _img2dataset(python: str, jpegs: list[bytes], folder: Path) -> float:
    """Images per second of CPU time, of all its processes, without those of the server that it fetches from."""
    source = folder / "served"
    source.mkdir()
    for k, data in enumerate(jpegs):
        (source / f"{k}.jpg").write_bytes(data)
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Quiet, directory=str(source))
    )  # fmt: skip
    threading.Thread(target=server.serve_forever, daemon=True).start()
    urls = folder / "urls.txt"
    urls.write_text("".join(f"http://127.0.0.1:{server.server_port}/{k}.jpg\n" for k in range(len(jpegs))))
    script = """if __name__ == "__main__":
    import sys
    from img2dataset import download
    download(url_list=sys.argv[1], output_folder=sys.argv[2], output_format="tfrecord", processes_count=1,
             thread_count=32, resize_mode="no", enable_wandb=False)
"""
    (folder / "peer.py").write_text(script)
    command = [python, str(folder / "peer.py"), str(urls), str(folder / "i2d")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    server.shutdown()
    written = sum(json.loads(path.read_text())["successes"] for path in (folder / "i2d").glob("*_stats.json"))
    if done.returncode or written < len(jpegs):
        raise SystemExit(f"img2dataset wrote {written} of {len(jpegs)} pictures:\n{done.stderr[-2000:]}")
    return len(jpegs) / (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def _scale(counts: list[int]) -> Table:
    table = Table(
        "small images", "CPU µs per image", "peak memory MB", title="convert: time and memory by size of shard"
    )
    for count in counts:
        found = _alone(f"convert:{count}")
        table.add_row(f"{count:,}", f"{found['seconds'] / count * 1e6:,.0f}", f"{found['memory'] / 1e6:,.0f}")
    return table


def _search(count: int) -> Table:
    table = Table(
        "search", "pairs found", "seconds", "CPU seconds", "peak memory MB", title=f"duplicates of {count:,} hashes"
    )
    for part, name in (("hashes", "random hashes and their mirror images"),
                       ("pictures", "thumbnails of pictures, light crops too")):  # fmt: skip
        found = _alone(f"{part}:{count}")
        values = (found["pairs"], found["wall"], found["seconds"], found["memory"] / 1e6)
        table.add_row(name, *(f"{value:,.0f}" for value in values))
    return table


def _assemble(counts: list[int]) -> Table:
    table = Table("pictures", "left out", "seconds", "CPU seconds", "peak memory MB", title="assemble: the whole step")
    for count in counts:
        found = _alone(f"assemble:{count}")
        values = (count, found["pairs"], found["wall"], found["seconds"], found["memory"] / 1e6)
        table.add_row(*(f"{value:,.0f}" for value in values))
    return table


def _alone(part: str) -> dict:
    """Runs a part in a process of its own, so that its peak memory is its own."""
    command = [sys.executable, "-m", "benchmarks.dataset", "--part", part]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def _measured(task: Callable[[], object]) -> dict:
    wall, cpu = time.monotonic(), time.process_time()
    result = task()
    # Not ru_maxrss: that starts at the peak of the process which started this one.
    memory = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
    pairs = len(result) if hasattr(result, "__len__") else 0
    return {"pairs": pairs, "wall": time.monotonic() - wall, "seconds": time.process_time() - cpu, "memory": memory}


def _part_convert(count: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        # Another process writes the shard: its memory is not that of convert.
        if os.fork() == 0:
            items = [Item(f"{k:06d}", "a", "train", data) for k, data in enumerate(_pictures(count, 3_000))]
            write_shard(Path(folder, "images"), "0", items, ["a"])
            os._exit(0)
        os.wait()
        return _measured(lambda: _convert(Path(folder, "images"), Path(folder, "converted")))


def _part_hashes(count: int) -> dict:
    hashes = np.random.default_rng(0).integers(0, 2**64, count, dtype=np.uint64)
    return _measured(lambda: close_pairs(hashes, [hashes, hashing.mirrored(hashes)], 8)[0])


def _part_pictures(count: int) -> dict:
    """Hashes of images are not random: blends of drawings, bright in the middle, one in a hundred a cropped copy."""
    rng = np.random.default_rng(0)
    lumas = np.zeros((count, 16, 16), np.uint8)
    for start in range(0, count, 10_000):  # all at once they would need more memory than the search
        part = lumas[start : start + 10_000]
        blends = rng.integers(0, 256, (len(part), 6, 6)).astype(np.float32).repeat(3, 1).repeat(3, 2)[:, :16, :16]
        part[:] = (blends + 60 * np.hanning(16)[:, None] * np.hanning(16)).clip(0, 255)
    copies = count // 100
    lumas[-copies:] = hashing.cut(lumas[:copies], (0.02, 0.02, 0.03, 0.03)).astype(np.uint8)
    return _measured(lambda: candidate_pairs(lumas, 8)[0])


def _part_assemble(count: int) -> dict:
    """The whole step on different images and, one in a hundred, a copy at a lower quality."""
    folder = tempfile.mkdtemp()
    try:
        if os.fork() == 0:  # another process makes the input: its memory is not that of the step
            _write_collection(Path(folder), count)
            os._exit(0)
        os.wait()
        index = [str(path) for path in sorted(Path(folder).glob("*/index"))]
        arguments = index, f"{folder}/objects", f"{folder}/labels", f"{folder}/dataset", f"{folder}/report.html"
        found = _measured(lambda: assemble_dataset(*arguments, settings()))
        examples = json.loads(Path(folder, "dataset", "dataset.json").read_text())
        return found | {"pairs": len(examples["excluded"])}
    finally:
        shutil.rmtree(folder)


def _write_collection(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    layers = [np.asarray(drawing(seed, (160, 160)), np.uint16) for seed in range(200)]
    items, before = [], layers[0]
    for k in range(count):
        # Two drawings, shifted and laid over each other: different from all others.
        one, other = (np.roll(layers[n], rng.integers(0, 160, 2), (0, 1)) for n in rng.integers(0, 200, 2))
        pixels = (one + other) // 2
        quality = 90
        if k % 100 == 99:
            pixels, quality = before, 60
        before = pixels
        data = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels, np.uint8), quality=quality)
        items.append(Item(f"{k:07d}", "ab"[k % 2], ("train", "train", "test")[k % 3], data))
    for number in range(0, count, 10_000):
        shard = folder / str(number)
        write_shard(shard, "0", items[number : number + 10_000], ["a", "b"])
        convert_shard("0", str(shard), str(shard / "records"), str(shard / "records"), str(shard / "index"))
    columns = ("object_id", "split")
    pq.write_table(pa.table({name: [getattr(item, name) for item in items] for name in columns}), folder / "objects")
    (folder / "labels").write_text("a\nb\n")


PARTS = {"assemble": _part_assemble, "convert": _part_convert, "hashes": _part_hashes, "pictures": _part_pictures}

if __name__ == "__main__":
    main()
