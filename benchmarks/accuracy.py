"""The accuracy table of docs/training.md: the pipeline's own steps on real images, beside an expert's script.

    python -m benchmarks.accuracy DATA [--work DIR] [--seeds 1,2,3,4,5] [--only louvre-mobilenet_v2]

DATA holds louvre/ (objects.csv, images.csv, images/), pacs_photo/ and painters4/ (a folder per class) and weights/. A
seed changes the split and the training; painters4, which is small, has three folds for every seed. For each data set
and split `pipeline.py run` makes the data (query to assemble, over HTTP or from the folder, near-duplicates dropped);
then every setting trains on it by `python -m components.train.worker`, and its model.tflite answers for the test
images. The expert's script takes the same records: features of the same network by plain Keras, scikit-learn's
LogisticRegressionCV on training and validation split together. Nothing is chosen by the test split. What is in the
folder --work already is not done again.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.metrics import f1_score

from components.artifacts import classifier, objects
from components.artifacts import dataset as datasets
from components.train.result import TrainingResult
from components.train.settings import Settings

FOLDED = {"painters4": 3}
_V1, _V2 = (
    f"weights/{name}_no_top.weights.h5"
    for name in ("mobilenet_v1_0.25_224_imagenet", "mobilenet_v2_1.0_224_from_tflite_ptq")
)
_SMALL = {"model": "mobilenet_025", "weights": _V1}
_LARGE = {"model": "mobilenet_v2", "weights": _V2}
_STEPS = {"head": "steps", "epochs": 30, "augmentation": "none"}
_SCRATCH = {"model": "simple_cnn", "weights": "none", "epochs": 120}
# What is not named here is as pipeline.py has it.
SETTINGS: dict[str, dict[str, object]] = {
    "louvre-mobilenet_025": _SMALL,
    "louvre-mobilenet_v2": _LARGE,
    "pacs_photo-mobilenet_025": _SMALL,
    "painters4-mobilenet_v2": _LARGE,
    "louvre-mobilenet_025-steps": {**_SMALL, **_STEPS},
    "painters4-mobilenet_v2-steps": {**_LARGE, **_STEPS},
    "pacs_photo-mobilenet_025-tuned": {**_SMALL, "fine_tune_epochs": "30", "learning_rate": 0.004},
    "louvre-simple_cnn-none": {**_SCRATCH, "augmentation": "none"},
    "louvre-simple_cnn-strong": {**_SCRATCH, "augmentation": "strong"},
}


class Split(NamedTuple):
    """Which part of the data is the test split."""

    seed: int
    fold: int


def main() -> None:
    """Measures what was asked for and prints the table, a row as soon as its seeds are done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument(
        "--work", type=Path, default=Path("runs/accuracy"), help="folder of the runs (default: %(default)s)"
    )
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--only", default="", help=f"of {', '.join(SETTINGS)}; all by default")
    arguments = parser.parse_args()
    print("| setting | test accuracy of each seed or fold | mean | macro F1 | expert's | macro F1 | step, seconds |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in arguments.only.split(",") if arguments.only else SETTINGS:
        folds = range(FOLDED.get(name.partition("-")[0], 1))
        seeds = [int(seed) for seed in arguments.seeds.split(",")]
        _print_row(name, [_measure(arguments, name, Split(seed, fold)) for seed in seeds for fold in folds])


def _called(name: str, split: Split) -> str:
    return f"{name}-{split.seed}-{split.fold}"


def _print_row(name: str, found: Sequence[dict[str, float]]) -> None:
    column = {key: [entry[key] for entry in found] for key in found[0]}
    cells = [", ".join(f"{value:.3f}" for value in column["test"]), f"**{_interval(column['test'])}**"]
    cells.append(_interval(column["macro_f1"]))
    expert = "expert" in column
    cells += [_interval(column[key]) if expert else "" for key in ("expert", "expert_macro_f1")]
    cells.append(f"{statistics.median(column['seconds']):.0f}")
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _interval(values: Sequence[float]) -> str:
    """Mean and 95 % interval, by the spread of the seeds."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.3f} ± {1.96 * error:.3f}"


def _measure(arguments: argparse.Namespace, name: str, split: Split) -> dict[str, float]:
    """Accuracies of the setting `name` and of the expert's script, kept in a file of the folder --work."""
    done = arguments.work / f"{_called(name, split)}.json"
    if not done.exists():
        dataset = _dataset(arguments, name.partition("-")[0], split)
        found = _train(arguments, name, split, dataset)
        if name.count("-") == 1:
            found |= _expert(SETTINGS[name], arguments.data, dataset)
        done.write_text(json.dumps(found))
    return json.loads(done.read_text())


def _dataset(arguments: argparse.Namespace, data: str, split: Split) -> str:
    """The folder of dataset.json that the pipeline makes of `data` with this split."""
    run = _called(data, split)
    if not (found := list((arguments.work / run).rglob("dataset.json"))):
        with _source(arguments.data / data) as parameters:
            # The shortest training there is: what matters of this run is its data.
            others = ("model=simple_cnn", "epochs=1", "serve_enabled=false")
            others += (f"seed={split.seed}",)
            others += (f"folds={FOLDED[data]}", f"fold={split.fold}") if data in FOLDED else ()
            others += ("min_accuracy=0", "must_beat_guessing=false")
            _python("pipeline.py", "run", "--root", arguments.work, "--name", run, *parameters, *others)
        found = list((arguments.work / run).rglob("dataset.json"))
    return str(found[0].parent)


@contextlib.contextmanager
def _source(folder: Path) -> Iterator[list[str]]:
    """The parameters by which the pipeline reads `folder`; a table's images are served over HTTP meanwhile."""
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


def _train(arguments: argparse.Namespace, name: str, split: Split, dataset: str) -> dict[str, float]:
    work = arguments.work / _called(name, split)
    work.mkdir(parents=True, exist_ok=True)
    chosen = {**_defaults(), **SETTINGS[name], "seed": split.seed, "snapshot": "", "logs": str(work / "logs")}
    if chosen["weights"] != "none":
        chosen["weights"] = str(arguments.data / str(chosen["weights"]))
    Settings(**chosen).save(str(work / "settings.json"))
    paths = {"settings": work / "settings.json", "output": work / "output", "checkpoints": work / "checkpoints"}
    started = time.monotonic()
    _python("-m", "components.train.worker", "--dataset", dataset, *(f"--{key}={path}" for key, path in paths.items()))
    seconds = time.monotonic() - started
    examples = list(datasets.read_examples(dataset, "test"))
    answers = classifier.load(str(work / "output")).predict([example.encoded for example in examples]).argmax(axis=1)
    labels = np.array([example.label_index for example in examples])
    return {
        "test": float((answers == labels).mean()),
        "macro_f1": float(f1_score(labels, answers, average="macro")),
        "validation": TrainingResult.load(str(work / "output")).metrics["validation_accuracy"],
        "seconds": seconds,
    }


def _defaults() -> dict[str, object]:
    """The pipeline's own values of the train step's parameters, by the names that Settings has."""
    from pipeline import pipeline

    signature = {name.removeprefix("train_"): item.default for name, item in pipeline.component_spec.inputs.items()}
    return {field.name: signature[field.name] for field in dataclasses.fields(Settings) if field.name in signature}


def _expert(setting: dict[str, object], data: Path, dataset: str) -> dict[str, float]:
    """What a good script of thirty lines makes of the same records."""
    from sklearn.linear_model import LogisticRegressionCV
    from threadpoolctl import threadpool_limits

    features, labels = {}, {}
    base = _keras_base(setting, data)
    for split in objects.SPLITS:
        examples = list(datasets.read_examples(dataset, split))
        features[split] = np.concatenate([_seen(base, part) for part in _batches(examples)])
        labels[split] = np.array([example.label_index for example in examples])
    both = (np.concatenate([each["train"], each["validation"]]) for each in (features, labels))
    with threadpool_limits(1):  # on a busy machine sharing small products takes longer than computing them
        answers = LogisticRegressionCV(Cs=10, cv=5, max_iter=5000).fit(*both).predict(features["test"])
    return {
        "expert": float((answers == labels["test"]).mean()),
        "expert_macro_f1": float(f1_score(labels["test"], answers, average="macro")),
    }


def _keras_base(setting: dict[str, object], data: Path):
    import keras

    options = {"include_top": False, "weights": None, "pooling": "avg", "input_shape": (224, 224, 3)}
    if setting["model"] == "mobilenet_v2":
        base = keras.applications.MobileNetV2(**options)
    else:
        base = keras.applications.MobileNet(alpha=0.25, **options)
    base.load_weights(data / str(setting["weights"]))
    return base


def _batches(examples: list) -> Iterator[list]:
    for first in range(0, len(examples), 32):
        yield examples[first : first + 32]


def _seen(base, examples: list) -> np.ndarray:
    import keras
    import tensorflow as tf

    pixels = [tf.io.decode_jpeg(example.encoded, channels=3).numpy() for example in examples]
    cropped = [keras.preprocessing.image.smart_resize(image, (224, 224)) for image in pixels]
    return base.predict_on_batch(np.stack(cropped) / 127.5 - 1)


def _python(*arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{done.stdout[-3000:]}\n{' '.join(map(str, arguments))} ended with {done.returncode}")


if __name__ == "__main__":
    main()
