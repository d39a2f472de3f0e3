"""Runs models over the test split: the one to be judged, its SavedModel, and the champion, on the same pictures."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from components.evaluate.testset import TestSet
from components.shared import classifier, imaging, storage
from components.shared.classifier import Classifier
from components.shared.errors import PipelineError
from components.shared.progress import Progress

_BATCH = 64
_TIMED = 50
_WARM_UP = 3


@dataclass(frozen=True)
class Answers:
    """What a model says to the n test pictures: [n, classes] probabilities in the order of the data set's labels."""

    name: str
    probabilities: np.ndarray

    @property
    def predictions(self) -> np.ndarray:
        """[n] class indexes."""
        return self.probabilities.argmax(axis=1)


def load(directory: str, engine: str, labels: tuple[str, ...], name: str) -> Classifier:
    """Loads a classifier and makes sure that it knows the data set's labels, in whatever order.

    Raises:
        PipelineError: it cannot be loaded, or it knows other labels.
    """
    model = classifier.load(directory, engine)
    missing, additional = sorted(set(labels) - set(model.labels)), sorted(set(model.labels) - set(labels))
    if missing or additional:
        lacks = f"it lacks {_some(missing)}" if missing else ""
        has = f"it also has {_some(additional)}" if additional else ""
        raise PipelineError(
            f"{name} {directory} knows other labels than the data set: {' and '.join(filter(None, [lacks, has]))}; "
            "only models with the same labels can be compared"
        )
    return model


def answers(models: dict[str, Classifier], test: TestSet) -> dict[str, Answers]:
    """The answers of every model (by name), from one pass over the pictures. Raises PipelineError."""
    progress = Progress(len(test), "pictures")
    orders = {name: [model.labels.index(label) for label in test.labels] for name, model in models.items()}
    parts: dict[str, list[np.ndarray]] = {name: [] for name in models}
    # The engines release the interpreter's lock, so several models take hardly longer than the slowest.
    with ThreadPoolExecutor(len(models)) as pool:
        for batch in test.batches(_BATCH):
            for name, found in zip(models, pool.map(_predict, models.values(), [batch] * len(models))):
                parts[name].append(found[:, orders[name]])
            progress.update(len(batch))
    return {name: Answers(name, np.concatenate(found)) for name, found in parts.items()}


def latency(model: Classifier, test: TestSet) -> float:
    """Median milliseconds for one picture, decoding included, on one core of this machine."""
    batch = next(test.batches(_TIMED))
    for picture in batch[:_WARM_UP]:
        model.predict([picture])
    seconds = []
    for picture in batch:
        started = time.perf_counter()
        model.predict([picture])
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds) * 1000)


def sizes(directory: str) -> tuple[int, int]:
    """Bytes of the LiteRT model and of the SavedModel in a classifier's folder; 0 for one that is not there."""
    files = storage.list_files(directory)
    lite = sum(file.size for file in files if file.uri.endswith(".tflite"))
    saved = sum(file.size for file in files if file.uri.removeprefix(directory.rstrip("/")).startswith("/1/"))
    return lite, saved


def _predict(model: Classifier, batch: list[bytes]) -> np.ndarray:
    try:
        found = model.predict(batch)
    except imaging.ImageError as error:
        raise PipelineError(f"a picture of the test split cannot be decoded ({error}): run convert again") from error
    if not np.isfinite(found).all() or found.sum(axis=1).min() <= 0:
        raise PipelineError("the model answers with numbers that are no probabilities (NaN or all 0): train it again")
    return found


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
