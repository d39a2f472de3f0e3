"""The accuracy table of docs/training.md: the pipeline's own steps on real pictures, several seeds, chosen settings.

    python -m benchmarks.accuracy DATA [--work DIR] [--seeds 1,2,3] [--only louvre-frozen,pacs_photo-frozen]

DATA holds louvre/ (objects.csv, images.csv, images/), pacs_photo/ (a folder a class) and weights/. A seed changes the
split and the training. For each data set and seed `pipeline.py run` makes the data (query to assemble, over HTTP or
from the folder, near-duplicates dropped); then every setting trains on it by `python -m components.train.worker`, and
its model.tflite answers for the test pictures. Settings are to be compared, and chosen, by the validation column. What
is in the folder --work already is not done again.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from components.artifacts import classifier
from components.artifacts import dataset as datasets
from components.train.result import TrainingResult
from components.train.settings import Settings

WEIGHTS = "weights/mobilenet_v1_0.25_224_imagenet_no_top.weights.h5"
_FROZEN = {"model": "mobilenet", "epochs": 25, "augmentation": "none"}
_TUNED = {**_FROZEN, "fine_tune_epochs": 15, "augmentation": "light"}
_SCRATCH = {"model": "simple_cnn", "weights": "none", "epochs": 40}
SETTINGS: dict[str, dict[str, object]] = {
    "louvre-frozen": _FROZEN,
    "pacs_photo-frozen": _FROZEN,
    "pacs_photo-frozen-long": {**_FROZEN, "epochs": 60, "learning_rate": 0.004},
    "pacs_photo-tuned": _TUNED,
    "pacs_photo-tuned-long": {**_TUNED, "fine_tune_epochs": 30, "learning_rate": 0.004},
    "louvre-tuned": _TUNED,
    "louvre-scratch-none": {**_SCRATCH, "augmentation": "none"},
    "louvre-scratch-light": {**_SCRATCH, "augmentation": "light"},
    "louvre-scratch-strong": {**_SCRATCH, "augmentation": "strong"},
    "louvre-scratch-none-long": {**_SCRATCH, "epochs": 120, "augmentation": "none"},
    "louvre-scratch-light-long": {**_SCRATCH, "epochs": 120, "augmentation": "light"},
    "louvre-scratch-strong-long": {**_SCRATCH, "epochs": 120, "augmentation": "strong"},
}
_DEFAULTS = {
    "snapshot": "", "logs": "", "weights": WEIGHTS, "fine_tune_epochs": 0, "batch_size": 32, "optimizer": "adamw",
    "learning_rate": 0.002, "balance": "none", "precision": "auto", "quantize": "none", "patience": 0,
    "checkpoint_every": 1000, "workers": 1, "accelerator": "", "gpus": 0, "max_restarts": 0,
}  # fmt: skip


def main() -> None:
    """Measures what was asked for and prints the table, a row as soon as its seeds are done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument(
        "--work", type=Path, default=Path("runs/accuracy"), help="folder of the runs (default: %(default)s)"
    )
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--only", default="", help=f"of {', '.join(SETTINGS)}; all by default")
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    print("| setting | test, a seed each | mean test accuracy | validation, a seed each | mean validation |")
    print("|---|---|---|---|---|", flush=True)
    for name in arguments.only.split(",") if arguments.only else SETTINGS:
        found = [_measure(arguments, name, seed) for seed in seeds]
        test, validation = zip(*((entry["test"], entry["validation"]) for entry in found))
        cells = (_row(test), f"**{statistics.mean(test):.3f}**", _row(validation), f"{statistics.mean(validation):.3f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _row(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _measure(arguments: argparse.Namespace, name: str, seed: int) -> dict[str, float]:
    """Test and validation accuracy of the setting `name`, kept in a file of the folder --work."""
    done = arguments.work / f"{name}-{seed}.json"
    if not done.exists():
        dataset = _dataset(arguments, name.partition("-")[0], seed)
        done.write_text(json.dumps(_train(arguments, name, seed, dataset)))
    return json.loads(done.read_text())


def _dataset(arguments: argparse.Namespace, data: str, seed: int) -> str:
    """The folder of dataset.json that the pipeline makes of `data` with the split of `seed`."""
    run = f"{data}-{seed}"
    if not (found := list((arguments.work / run).rglob("dataset.json"))):
        with _source(arguments.data / data) as parameters:
            # The shortest training there is: what matters of this run is its data.
            others = ("model=simple_cnn", "epochs=1", "serve_enabled=false", f"seed={seed}")
            others += ("min_accuracy=0", "must_beat_guessing=false")
            _python("pipeline.py", "run", "--root", arguments.work, "--name", run, *parameters, *others)
        found = list((arguments.work / run).rglob("dataset.json"))
    return str(found[0].parent)


@contextlib.contextmanager
def _source(folder: Path) -> Iterator[list[str]]:
    """The parameters by which the pipeline reads `folder`; a table's pictures are served over HTTP meanwhile."""
    if not (folder / "objects.csv").exists():
        yield ["source=folder", f"table={folder}"]
        return
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield [
            *("source=table", f"table={folder}/objects.csv", f"images_table={folder}/images.csv"),
            "label=classification",
            f"image_base=http://127.0.0.1:{server.server_port}/",
        ]
    finally:
        server.shutdown()
        server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def _train(arguments: argparse.Namespace, name: str, seed: int, dataset: str) -> dict[str, float]:
    work = arguments.work / f"{name}-{seed}"
    work.mkdir(parents=True, exist_ok=True)
    chosen = {**_DEFAULTS, **SETTINGS[name], "seed": seed, "logs": str(work / "logs")}
    if chosen["weights"] == WEIGHTS:
        chosen["weights"] = str(arguments.data / WEIGHTS)
    Settings(**chosen).save(str(work / "settings.json"))
    paths = {"settings": work / "settings.json", "output": work / "output", "checkpoints": work / "checkpoints"}
    _python("-m", "components.train.worker", "--dataset", dataset, *(f"--{key}={path}" for key, path in paths.items()))
    result = TrainingResult.load(str(work / "output"))
    return {
        "test": _test_accuracy(str(work / "output"), dataset),
        "validation": result.metrics["validation_accuracy"],
        "seconds": result.seconds,
    }


def _test_accuracy(model: str, dataset: str) -> float:
    examples = list(datasets.read_examples(dataset, "test"))
    answers = classifier.load(model).predict([example.encoded for example in examples])
    return float((answers.argmax(axis=1) == np.array([example.label_index for example in examples])).mean())


def _python(*arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{done.stdout[-3000:]}\n{' '.join(map(str, arguments))} ended with {done.returncode}")


if __name__ == "__main__":
    main()
