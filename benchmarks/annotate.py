"""How fast `pipeline.py annotate` suggests labels, beside the server's engine on as many cores.

    python -m benchmarks.annotate --model CLASSIFIER --annotations FOLDER [--rounds 5]

FOLDER is what `pipeline.py annotate` left: its images are answered again, into a temporary folder. The engine is the
server's: a process per core, each with a model of its own, that answers for its share of the same images and does
nothing else. Both take turns; the table has the medians of the rounds.
"""

import argparse
import statistics
import tarfile
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from components.annotate.settings import Settings
from components.annotate.suggest import Annotator
from components.artifacts import classifier
from components.shared.cores import available_cores


def main() -> None:
    """Prints images per second of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of the classifier")
    parser.add_argument("--annotations", required=True, help="the --output of a finished annotate")
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    options = parser.parse_args()
    shards = sorted(path for path in Path(options.annotations, "images").iterdir() if path.is_dir())
    images = [data for shard in shards for data in _images(shard)]
    annotator, rates = Annotator(Settings(options.model)), []
    with ProcessPoolExecutor(available_cores()) as pool:
        for _ in range(options.rounds):
            rates.append((_engine_rate(pool, options.model, images), _annotate_rate(annotator, shards, len(images))))
            print(f"{len(images)} images: engine {rates[-1][0]:.1f}/s, annotate {rates[-1][1]:.1f}/s", flush=True)
    engine, annotate = (statistics.median(each) for each in zip(*rates))
    ratio = statistics.median(ours / theirs for theirs, ours in rates)
    print(f"medians of {options.rounds}: engine {engine:.1f}/s, annotate {annotate:.1f}/s, ratio {ratio:.2f}")


def _images(shard: Path) -> Iterator[bytes]:
    with tarfile.open(next(shard.glob("*.tar"))) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.name.endswith(".jpg") else None
            if file:
                yield file.read()


def _engine_rate(pool: ProcessPoolExecutor, model: str, images: list[bytes]) -> float:
    cores = available_cores()
    return sum(pool.map(_answer, [model] * cores, [images[core::cores] for core in range(cores)]))


def _answer(model: str, images: list[bytes]) -> float:
    """Images per second of one process, once its model is loaded."""
    loaded = classifier.load(model)
    started = time.monotonic()
    for image in images:
        loaded.look([image])
    return len(images) / (time.monotonic() - started)


def _annotate_rate(annotator: Annotator, shards: list[Path], count: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        for shard in shards:
            annotator.annotate(shard.name, str(shard), f"{folder}/{shard.name}")
        return count / (time.monotonic() - started)


if __name__ == "__main__":
    main()
