"""Input pipeline, training step, two workers and time to the first step, each interleaved with its peers.

    python -m benchmarks.train [input] [step] [workers] [start] [--rounds 3] [--models simple_cnn,mobilenet_v2]

Pictures are synthetic JPEGs with a short side of 256 pixels (a paintings' entropy: about 25 KB each), batches of 32 at
224 pixels. Peers take turns in every round; tables have medians over the rounds. Processor seconds stand beside the
rates, because on a busy machine they are the number that another machine can compare with.

The torch peer is measured where torch and simplejpeg are installed (pip install torch --index-url of CPU builds).
"""

import argparse
import contextlib
import hashlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Iterator

import numpy as np

from components.shared import imaging, records

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

STORED, SIDE, BATCH, CLASSES = 256, 224, 32, 8
PICTURES = 512

Measured = tuple[float, float]  # images a second by the wall clock, and by processor time of one core


def main() -> None:
    """Runs the parts that were asked for and prints their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=[], help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", default="simple_cnn,mobilenet_v2,inception_v3", help="of the part 'step'")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-train-") as folder:
        dataset = make_pictures(Path(folder))
        for part in arguments.parts or PARTS:
            PARTS[part](dataset, arguments)


def make_pictures(folder: Path) -> Path:
    """Writes PICTURES pictures as record shards with dataset.json, and as a folder a class; returns the folder."""
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
    """A JPEG with a natural picture's mix of large shapes and grain, portrait or landscape."""
    height, width = random.permutation([STORED, int(random.integers(STORED, 360))])
    coarse = random.integers(0, 256, [12, 12, 3]).astype(np.uint8)
    shapes = imaging.resize_short_side(coarse, max(height, width))[:height, :width].astype(np.float32)
    grain = random.normal(0, 9, [height, width, 1])
    encoded = imaging.encode_jpeg((shapes + grain).clip(0, 255).astype(np.uint8), 90)
    return encoded, int(height), int(width)


def measure_input(dataset: Path, arguments: argparse.Namespace) -> None:
    """The input pipeline alone: how many pictures a second come out."""
    import tensorflow as tf

    def ours(augmentation: str) -> Callable[[], Measured]:
        return lambda: _pull(_our_batches(dataset, augmentation))

    peers: dict[str, Callable[[], Measured]] = {
        "ours, window crop (light)": ours("light"),
        "ours, random-resized-crop": ours("crop"),
        "ours, RandAugment and mixing (strong)": ours("strong"),
        "keras.utils.image_dataset_from_directory, random-resized-crop": lambda: _pull(_keras_batches(dataset)),
    }
    with contextlib.suppress(ImportError):
        import torch  # noqa: F401

        peers["torch DataLoader with simplejpeg, random-resized-crop"] = lambda: _pull_torch(dataset)
    del tf
    _table("input pipeline, images a second", _interleaved(peers, arguments.rounds))


def _our_batches(dataset: Path, augmentation: str):
    from components.shared import dataset as datasets
    from components.train import batches, input_pipeline

    examples = input_pipeline.load(datasets.load(str(dataset)), "train", str(dataset))
    order = input_pipeline.Order(examples.labels, BATCH, seed=1)
    geometry = batches.Geometry(SIDE, CLASSES, augmentation, 1)
    return batches.images(examples, order, batches.Share(0, 1, 1), geometry, threads=os.cpu_count() or 1)


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


def _pull(data, count: int = 24) -> Measured:
    iterator = iter(data)
    for _ in range(4):
        next(iterator)
    return _timed(lambda: [next(iterator) for _ in range(count)], count)


def _pull_torch(dataset: Path) -> Measured:
    """In a process of its own: the loader's workers must not inherit TensorFlow."""
    command = [sys.executable, "-m", "benchmarks.train_torch", str(dataset / "folders"), str(SIDE), str(BATCH)]
    rate, processor = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-2:]
    return float(rate), float(processor)


def measure_step(dataset: Path, arguments: argparse.Namespace) -> None:
    """The training step on ready batches: our tf.function against Model.fit of plain Keras."""
    for name in arguments.models.split(","):
        peers = {"ours": _our_step(name), "Model.fit": _fit(name, jit=False)}
        if name == "simple_cnn":
            # What fit chooses by itself; on a CPU it is far too slow for the larger models to wait for.
            peers["Model.fit, XLA (its default)"] = _fit(name, jit="auto")
            peers["ours, bfloat16"] = _our_step(name, "mixed_bfloat16")
        _table(f"training step of {name}, images a second", _interleaved(peers, arguments.rounds))


def _batch() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    return random.integers(0, 256, [BATCH, SIDE, SIDE, 3]).astype(np.uint8), np.eye(CLASSES, dtype=np.float32)[
        np.arange(BATCH) % CLASSES
    ]


def _our_step(name: str, policy: str = "float32") -> Callable[[], Measured]:
    import keras
    import tensorflow as tf

    from components.train import models
    from components.train.trainer import Trainer

    keras.config.set_dtype_policy(policy)
    network = models.build(name, SIDE, CLASSES)
    trainer = Trainer(tf.distribute.get_strategy(), network.model, _settings(name), 1e-3, 1000)
    keras.config.set_dtype_policy("float32")
    images, targets = _batch()
    element = (tf.constant(images), tf.constant(targets), tf.fill([BATCH], 1 / BATCH))
    trainer.step(element, False)
    return lambda: _timed(lambda: [trainer.step(element, False) for _ in range(4)], 4)


def _fit(name: str, jit: bool | str) -> Callable[[], Measured]:
    import keras
    import tensorflow as tf

    from components.train import models

    model = models.build(name, SIDE, CLASSES).model
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=0.01, global_clipnorm=1.0, use_ema=True)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=jit)
    data = tf.data.Dataset.from_tensors(_batch()).repeat()
    model.fit(data, steps_per_epoch=1, verbose=0)
    return lambda: _timed(lambda: model.fit(data, steps_per_epoch=4, verbose=0), 4)


def measure_workers(dataset: Path, arguments: argparse.Namespace) -> None:
    """A whole training on one worker and on two that share the same cores."""
    peers = {"one worker": lambda: _train(dataset, 1), "two workers": lambda: _train(dataset, 2)}
    _table("training of simple_cnn, images a second", _interleaved(peers, arguments.rounds))


def _train(dataset: Path, workers: int) -> Measured:
    from components.train.result import TrainingResult

    with tempfile.TemporaryDirectory() as folder:
        _settings("simple_cnn", workers=workers, logs=f"{folder}/logs", epochs=2).save(f"{folder}/settings.json")
        started = os.times()
        processes = [
            _worker(dataset, folder, index, addresses) for addresses in [_free(workers)] for index in range(workers)
        ]
        assert not any([process.wait() for process in processes])
        used = os.times()
        processor = used.children_user + used.children_system - started.children_user - started.children_system
        result = TrainingResult.load(f"{folder}/output-0")
        return result.images_per_second, 2 * PICTURES / processor


def _worker(dataset: Path, folder: str, index: int, addresses: list[str]) -> subprocess.Popen:
    environment = dict(os.environ)
    if len(addresses) > 1:
        task = {"type": "worker", "index": index}
        environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
    arguments = {
        "settings": f"{folder}/settings.json", "dataset": dataset, "output": f"{folder}/output-{index}",
        "checkpoints": f"{folder}/checkpoints",
    }  # fmt: skip
    command = [sys.executable, "-m", "components.train", *(f"--{name}={value}" for name, value in arguments.items())]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _free(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{entry.getsockname()[1]}" for entry in sockets]
    for entry in sockets:
        entry.close()
    return addresses


def measure_start(dataset: Path, arguments: argparse.Namespace) -> None:
    """Seconds from the start of a worker process to the end of its first step, for mobilenet_v2."""
    seconds = []
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            _settings("mobilenet_v2", logs=f"{folder}/logs", epochs=1).save(f"{folder}/settings.json")
            started = time.monotonic()
            seconds.append(_first_step(dataset, folder) - started)
    print(f"\nfirst step of mobilenet_v2 after {statistics.median(seconds):.1f} s (of {np.round(seconds, 1)})")


def _first_step(dataset: Path, folder: str) -> float:
    os.environ["PROGRESS_SECONDS"] = "0"
    command = [
        sys.executable, "-m", "components.train", "--settings", f"{folder}/settings.json", "--dataset", str(dataset),
        "--output", f"{folder}/output", "--checkpoints", f"{folder}/checkpoints",
    ]  # fmt: skip
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        for line in process.stdout or ():
            if line.startswith("progress: 1/"):
                process.kill()
                return time.monotonic()
    raise SystemExit("the worker ended before its first step")


def _settings(model: str, **changes: object):
    from components.train.settings import Settings

    values = dict(
        snapshot="", logs="", model=model, weights="none", epochs=1, fine_tune_epochs=0, batch_size=BATCH,
        optimizer="adamw", learning_rate=1e-3, augmentation="light", balance="none", precision="float32",
        quantize="none", patience=0, checkpoint_every=1000, workers=1, accelerator="", gpus=0, max_restarts=0, seed=1,
    )  # fmt: skip
    return Settings(**{**values, **changes})


def _timed(work: Callable[[], object], batches: int) -> Measured:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    images = batches * BATCH
    return images / (time.perf_counter() - wall), images / (time.process_time() - processor)


def _interleaved(peers: dict[str, Callable[[], Measured]], rounds: int) -> Iterator[tuple[str, Measured]]:
    measured: dict[str, list[Measured]] = {name: [] for name in peers}
    for number in range(rounds):
        # Another order each round: whoever runs first must not always meet the same neighbour.
        for name in sorted(peers, key=lambda name: hash((name, number))):
            measured[name].append(peers[name]())
    for name, values in measured.items():
        yield name, tuple(statistics.median(column) for column in zip(*values))


def _table(title: str, rows: Iterator[tuple[str, Measured]]) -> None:
    rows = list(rows)
    (_, first) = rows[0]
    print(f"\n| {title} | wall clock | a processor second | first row's gain |\n|---|---|---|---|")
    for name, (rate, processor) in rows:
        print(f"| {name} | {rate:,.0f} | {processor:,.0f} | {first[1] / processor:.2f} |", flush=True)


PARTS = {"input": measure_input, "step": measure_step, "workers": measure_workers, "start": measure_start}

if __name__ == "__main__":
    main()
