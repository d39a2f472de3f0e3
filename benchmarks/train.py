"""Input pipeline, training step and time to the first step, each interleaved with its peers.

    python -m benchmarks.train [input] [step] [features] [start] [--rounds 5] [--models simple_cnn,mobilenet_v2]

Images are synthetic JPEGs of 256 pixels on the short side and 0.24 bytes per pixel (stored paintings of the Louvre
have 0.22), about 19 KB each; batches of 32 at 224 pixels. Peers take turns in every round, in another order each.
Tables have the medians of the rounds by the wall clock and by processor time (which a busy machine disturbs less); a
gain is the median of the rounds' ratios. How two workers compare with one: python -m benchmarks.workers.

The torch peer needs torch and simplejpeg, which may live in an environment of their own:

    python -m venv torch-peer && torch-peer/bin/pip install torch simplejpeg numpy psutil
    python -m benchmarks.train input --torch torch-peer/bin/python
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.train_step import BATCH, CLASSES, SIDE, settings
from components.artifacts import records
from components.shared import imaging

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

STORED = 256
PICTURES, EPOCHS = 512, 8
KERAS = "keras.utils.image_dataset_from_directory, random-resized-crop"
TORCH = "torch DataLoader with simplejpeg, random-resized-crop"

Measured = tuple[float, float]  # images per second by the wall clock, and by processor time of one core


@dataclass(frozen=True)
class Gain:
    """How many times as fast `row` is as `peer`, and how many times was asked for (0: nothing was)."""

    row: str
    peer: str
    asked: float = 0.0


def main() -> None:
    """Runs the parts that were asked for and prints their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=[], help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", default="simple_cnn,mobilenet_v2,inception_v3", help="of the part 'step'")
    parser.add_argument(
        "--torch", default=sys.executable, metavar="PYTHON", help="interpreter with torch, simplejpeg and psutil"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-train-") as folder:
        dataset = make_pictures(Path(folder))
        for part in arguments.parts or PARTS:
            PARTS[part](dataset, arguments)


def make_pictures(folder: Path) -> Path:
    """Writes PICTURES images as record shards with dataset.json, and as a folder per class; returns the folder."""
    random = np.random.default_rng(1)
    splits = {}
    for split, count in (("train", PICTURES), ("validation", 64)):
        path, per_class = folder / f"{split}-00000-of-00001.tfrecord", [0] * CLASSES
        with records.RecordWriter(str(path)) as writer:
            for number in range(count):
                label = number % CLASSES
                per_class[label] += 1
                encoded, height, width = _picture(random)
                digest = hashlib.sha256(encoded).hexdigest()
                record = records.Record(f"{split}-{number}", str(label), label, encoded, height, width, digest)
                writer.write(records.encode(record))
                if split == "train":
                    file = folder / "folders" / str(label) / f"{number}.jpg"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(encoded)
        files = [{"uri": str(path), "examples": count, "records": count, "bytes": path.stat().st_size}]
        splits[split] = {"examples": count, "per_class": per_class, "files": files}
    content = {
        "format": 1, "snapshot": "0" * 64, "labels": [str(i) for i in range(CLASSES)], "stored_size": STORED,
        "splits": splits, "excluded": [], "parameters": {}, "check": {"outcome": "ok", "reasons": []},
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def _picture(random: np.random.Generator) -> tuple[bytes, int, int]:
    """A JPEG with a natural image's mix of large shapes and grain, portrait or landscape."""
    height, width = random.permutation([STORED, int(random.integers(STORED, 360))])
    coarse = random.integers(0, 256, [12, 12, 3]).astype(np.uint8)
    shapes = imaging.resize_short_side(coarse, max(height, width))[:height, :width].astype(np.float32)
    grain = random.normal(0, 3, [height, width, 1])
    encoded = imaging.encode_jpeg((shapes + grain).clip(0, 255).astype(np.uint8), 90)
    return encoded, int(height), int(width)


def measure_input(dataset: Path, arguments: argparse.Namespace) -> None:
    """The input pipeline alone, with the threads that training gives it: how many images per second come out."""

    def ours(augmentation: str) -> Callable[[], Measured]:
        return lambda: _pull(_our_batches(dataset, augmentation), 2 if augmentation == "strong" else EPOCHS)

    window, crop = "ours, window crop (light)", "ours, random-resized-crop"
    peers: dict[str, Callable[[], Measured]] = {
        window: ours("light"),
        crop: ours("crop"),
        "ours, RandAugment and mixing (strong)": ours("strong"),
        KERAS: lambda: _pull(_keras_batches(dataset), EPOCHS),
    }
    gains = [Gain(crop, KERAS, 2.0), Gain(window, KERAS, 3.0)]
    if _has_torch(arguments.torch):
        peers[TORCH] = lambda: _pull_torch(arguments.torch, dataset)
        gains.append(Gain(crop, TORCH, 1.4))
    _show("input pipeline", _interleaved(peers, arguments.rounds), gains)


def _has_torch(python: str) -> bool:
    done = subprocess.run([python, "-c", "import torch, simplejpeg, psutil"], capture_output=True, text=True)
    if done.returncode:
        print(f"no torch peer: {python} cannot import torch, simplejpeg and psutil; --help tells how to install them")
    return not done.returncode


def _our_batches(dataset: Path, augmentation: str):
    import tensorflow as tf

    from components.artifacts import dataset as datasets
    from components.train.worker import batches, input_pipeline

    examples = input_pipeline.load(datasets.load(str(dataset)), "train", str(dataset))
    order = input_pipeline.Order(examples.labels, BATCH, seed=1)
    share, geometry = batches.Share(0, 1, 1), batches.Geometry(SIDE, CLASSES, augmentation, 1)
    return batches.distributed(tf.distribute.get_strategy(), lambda: batches.images(examples, order, share, geometry))


def _keras_batches(dataset: Path):
    import keras
    import tensorflow as tf

    data = keras.utils.image_dataset_from_directory(
        str(dataset / "folders"), label_mode="categorical", batch_size=None, image_size=(STORED, STORED), seed=1,
        verbose=False,
    )  # fmt: skip

    def crop(image, label):
        area = tf.random.uniform([], 0.35, 1.0) * STORED * STORED
        ratio = tf.exp(tf.random.uniform([], -tf.math.log(4 / 3), tf.math.log(4 / 3)))
        height = tf.minimum(tf.cast(tf.sqrt(area / ratio), tf.int32), STORED)
        width = tf.minimum(tf.cast(tf.sqrt(area * ratio), tf.int32), STORED)
        image = tf.image.random_crop(image, [height, width, 3])
        return tf.image.random_flip_left_right(tf.image.resize(image, [SIDE, SIDE])), label

    return data.repeat().map(crop, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(2)


def _pull(data, epochs: int) -> Measured:
    """Whole epochs: Keras decodes one in a burst when it fills its shuffle buffer, and then hands it out."""
    count = epochs * PICTURES // BATCH
    iterator = iter(data)
    for _ in range(4):
        next(iterator)
    return _timed(lambda: [next(iterator) for _ in range(count)], count)


def _timed(work: Callable[[], object], batches: int) -> Measured:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    images = batches * BATCH
    return images / (time.perf_counter() - wall), images / (time.process_time() - processor)


def _pull_torch(python: str, dataset: Path) -> Measured:
    """In a process of its own: the loader's workers must not inherit TensorFlow."""
    rate, processor = _output([python, "-m", "benchmarks.train_torch", dataset / "folders", SIDE, BATCH]).split()[-2:]
    return float(rate), float(processor)


def _output(command: list[object]) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stderr}\n{' '.join(map(str, command))} ended with {done.returncode}")
    return done.stdout


def measure_step(dataset: Path, arguments: argparse.Namespace) -> None:
    """The training step on ready batches: our tf.function against Model.fit of plain Keras."""
    for name in arguments.models.split(","):
        peers = {"ours": "ours", "ours, onednn_bf16": "onednn_bf16", "Model.fit": "fit"}
        gains = [Gain("ours", "Model.fit", 1.0), Gain("ours, onednn_bf16", "ours")]
        if name == "simple_cnn":
            # XLA is what fit chooses by itself; on a CPU it is far too slow for the larger models to wait for.
            peers |= {"ours, bfloat16": "bfloat16", "Model.fit, XLA (its default)": "fit-xla"}
            gains += [Gain("ours, bfloat16", "ours"), Gain("ours", "Model.fit, XLA (its default)")]
        _steps(f"training step of {name}", name, peers, gains, arguments.rounds)


def measure_features(dataset: Path, arguments: argparse.Namespace) -> None:
    """Training the head of a frozen network: on features computed once, and through the network in every step."""
    cached, frozen = "features computed once, from the second epoch on", "through the frozen network"
    peers = {cached: "features", frozen: "frozen"}
    _steps("head of mobilenet_v2", "mobilenet_v2", peers, [Gain(cached, frozen)], arguments.rounds)


def _steps(title: str, model: str, peers: dict[str, str], gains: list[Gain], rounds: int) -> None:
    with ExitStack() as running:
        asked = {name: running.enter_context(_Process(peer, model)) for name, peer in peers.items()}
        for process in asked.values():
            process.read()  # that it is ready: all start side by side, and none measures before the last is done
        _show(title, _interleaved({name: process.measure for name, process in asked.items()}, rounds), gains)


class _Process:
    """A peer of benchmarks.train_step, which measures when it is asked to."""

    def __init__(self, peer: str, model: str) -> None:
        self._errors = tempfile.TemporaryFile("w+")
        command = [sys.executable, "-m", "benchmarks.train_step", peer, model]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )

    def __enter__(self) -> "_Process":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def measure(self) -> Measured:
        """One round. Raises SystemExit with what the process wrote to its standard error if it has ended."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        rate, processor = self.read().split()
        return float(rate), float(processor)

    def read(self) -> str:
        """The next line of the process that is no message of TensorFlow's."""
        for line in self._process.stdout:
            if line.strip() == "ready" or len(line.split()) == 2 and line[0].isdigit():
                return line
        self._errors.seek(0)
        raise SystemExit(f"{self._errors.read()}\n{self._process.args} ended early")


def measure_start(dataset: Path, arguments: argparse.Namespace) -> None:
    """Seconds from the start of a worker process to the end of its first step, for mobilenet_v2."""
    seconds = [_first_step(dataset) for _ in range(arguments.rounds)]
    each = ", ".join(f"{value:.1f}" for value in seconds)
    print(f"\nfirst step of mobilenet_v2 after {statistics.median(seconds):.1f} s (rounds: {each}; asked: under 20 s)")


def _first_step(dataset: Path) -> float:
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/errors", "w+") as errors:
        settings("mobilenet_v2", logs=f"{folder}/logs").save(f"{folder}/settings.json")
        paths = {"settings": f"{folder}/settings.json", "dataset": str(dataset)}
        paths |= {name: f"{folder}/{name}" for name in ("output", "checkpoints")}
        options = [f"--{name}={path}" for name, path in paths.items()]
        command = [sys.executable, "-m", "components.train.worker", *options]
        environment, started = {**os.environ, "PROGRESS_SECONDS": "0"}, time.monotonic()
        with subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=errors) as process:
            for line in process.stdout or ():
                if line.startswith("progress: 1/") and " steps" in line:
                    process.kill()
                    return time.monotonic() - started
        errors.seek(0)
        raise SystemExit(f"{errors.read()}\nthe worker ended before its first step")


def _interleaved(peers: dict[str, Callable[[], Measured]], rounds: int) -> dict[str, list[Measured]]:
    """What each peer reached in each round."""
    measured: dict[str, list[Measured]] = {name: [] for name in peers}
    names = list(peers)
    for number in range(rounds):
        # Another order each round: whoever runs first must not always meet the same neighbour.
        for name in names[number % len(names) :] + names[: number % len(names)]:
            measured[name].append(peers[name]())
    return measured


def _show(title: str, measured: dict[str, list[Measured]], gains: list[Gain]) -> None:
    print(f"\n| {title}, images per second | wall clock | a processor second |\n|---|---|---|")
    for name, values in measured.items():
        rate, processor = (statistics.median(column) for column in zip(*values))
        print(f"| {name} | {rate:,.0f} | {processor:,.0f} |")
    print("\n| gain | by the wall clock | rounds | by processor time | asked |\n|---|---|---|---|---|")
    for gain in gains:
        pairs = list(zip(measured[gain.row], measured[gain.peer], strict=True))
        wall, processor = ([ours[i] / theirs[i] for ours, theirs in pairs] for i in range(2))
        cells = (f"**{statistics.median(wall):.2f}**", f"{min(wall):.2f} to {max(wall):.2f}")
        cells += (f"{statistics.median(processor):.2f}", f"{gain.asked:.1f}" if gain.asked else "")
        print(f"| {gain.row} against {gain.peer} | {' | '.join(cells)} |", flush=True)


PARTS = {"input": measure_input, "step": measure_step, "features": measure_features, "start": measure_start}

if __name__ == "__main__":
    main()
