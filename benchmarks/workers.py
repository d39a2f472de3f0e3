"""What a second worker costs: images per second of one worker and of two that share the same cores and global batch.

    python -m benchmarks.workers --model simple_cnn --rounds 3

Rounds are interleaved (one, two, one, two ...). With no further core to win, two workers at 1.0 of one would mean that
exchanging gradients costs nothing; the ratio's distance from 1 is the overhead. CPU time per image is that of all
workers, from the difference between a long and a short training, so that no start counts: it says how much the
exchange itself costs, also on a machine that does other things, where images per second only say how busy it is.
"""

import argparse
import hashlib
import json
import os
import resource
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.artifacts import records
from components.shared import imaging
from components.train.launcher.local_workers import LocalWorkers
from components.train.result import TrainingResult
from components.train.settings import Settings

CLASSES = 4


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default="simple_cnn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=512)
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_dataset(Path(folder), arguments.pictures, arguments.image_size)
        found: dict[int, list[Speed]] = {1: [], arguments.workers: []}
        for number in range(arguments.rounds):
            for workers, speeds in found.items():
                speeds.append(measure(arguments, workers, dataset, os.path.join(folder, f"{number}-{workers}")))
                print(f"round {number + 1}, {workers} worker(s): {speeds[-1]}", flush=True)
    size = imaging.input_size(arguments.image_size)
    print(f"\n{arguments.model}, {size} px, batch {arguments.batch_size}, {os.cpu_count()} cores")
    one, several = found.values()
    for name, ratios in (
        ("images/s", [its.rate / own.rate for own, its in zip(one, several, strict=True)]),
        ("CPU time per picture", [its.cpu / own.cpu for own, its in zip(one, several, strict=True)]),
    ):
        median = statistics.median(ratios)
        print(f"{arguments.workers} workers to one, {name}: {median:.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


@dataclass(frozen=True)
class Speed:
    """Images a second with the first steps left out, and CPU milliseconds an image of all workers."""

    rate: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.rate:.0f} images/s, {self.cpu:.2f} ms CPU a picture"


def measure(arguments: argparse.Namespace, workers: int, dataset: str, folder: str) -> Speed:
    """The speed of a training of `epochs` epochs, and of one epoch to take the start away."""
    _, start = train(arguments, workers, dataset, f"{folder}-start", 1)
    rate, whole = train(arguments, workers, dataset, folder, arguments.epochs)
    return Speed(rate, 1000 * (whole - start) / ((arguments.epochs - 1) * arguments.pictures))


def train(arguments: argparse.Namespace, workers: int, dataset: str, folder: str, epochs: int) -> tuple[float, float]:
    """Images a second, and CPU seconds of all workers from start to end."""
    os.makedirs(folder)
    settings = Settings(
        snapshot="0" * 64, logs=f"{folder}/logs", model=arguments.model, weights="none", epochs=epochs,
        head="steps", view="auto", fine_tune_epochs="0", batch_size=arguments.batch_size, optimizer="adamw",
        learning_rate=0.001,
        augmentation="light", balance="none", precision="float32", quantize="none",
        patience=0, checkpoint_every=10_000, workers=workers,
        accelerator="nvidia.com/gpu", gpus=0, max_restarts=0, seed=1,
    )  # fmt: skip
    settings.save(f"{folder}/settings.json")
    options = ["--settings", f"{folder}/settings.json", "--dataset", dataset]
    options += ["--output", f"{folder}/output", "--checkpoints", f"{folder}/checkpoints"]
    before = children_cpu()
    with open(os.devnull, "w") as quiet:
        failure = LocalWorkers(options, workers, log=quiet).run()
    if failure:
        raise SystemExit(f"{failure}: {failure.lines}")
    return TrainingResult.load(f"{folder}/output").images_per_second, children_cpu() - before


def children_cpu() -> float:
    """CPU seconds of all processes that this one waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def write_dataset(folder: Path, pictures: int, size: int) -> str:
    """A data set of noisy images; what is on them does not matter to the speed."""
    splits = {}
    for split, count in (("train", pictures), ("validation", 32), ("test", 8)):
        path = folder / f"{split}-00000-of-00001.tfrecord"
        with records.RecordWriter(str(path)) as writer:
            for number in range(count):
                writer.write(records.encode(_record(split, number, size)))
        per_class = [len(range(label, count, CLASSES)) for label in range(CLASSES)]
        file = {"uri": str(path), "examples": count, "records": count, "bytes": path.stat().st_size}
        splits[split] = {"examples": count, "per_class": per_class, "files": [file]}
    content = {
        "format": 1, "snapshot": "0" * 64, "labels": [f"class {label}" for label in range(CLASSES)],
        "stored_size": size, "splits": splits, "excluded": [], "parameters": {},
        "check": {"outcome": "ok", "reasons": []},
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(content))
    return str(folder)


def _record(split: str, number: int, size: int) -> records.Record:
    coarse = np.random.default_rng(number).integers(0, 256, [8, 10, 3], np.uint8)
    pixels = coarse.repeat(size // 8, axis=0).repeat(size // 8, axis=1)
    data = imaging.encode_jpeg(pixels, 90)
    label = number % CLASSES
    height, width, _ = pixels.shape
    digest = hashlib.sha256(data).hexdigest()
    return records.Record(f"{split}-{number}", f"class {label}", label, data, height, width, digest)


if __name__ == "__main__":
    main()
