"""Runs models over the test split: the one to be judged, its SavedModel, and the champion, on the same images."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from components.artifacts import classifier
from components.artifacts.classifier import Classifier
from components.evaluate.fairness import named
from components.evaluate.testset import TestSet
from components.shared import imaging
from components.shared.errors import PipelineError
from components.shared.progress import Progress

_BATCH = 64
_TIMED = 50
_WARM_UP = 3


@dataclass(frozen=True)
class Answers:
    """What a model says to the n test images: [n, classes + 1] probabilities in the order of the data set's labels.

    A label that the model does not know has 0; the last column is the likeliest of those that only the model knows.
    `unlike` [n] bool are the images that the model takes for unlike those it learned from; None: it cannot say.
    """

    name: str
    probabilities: np.ndarray
    unlike: np.ndarray | None = None

    @property
    def predictions(self) -> np.ndarray:
        """[n] class indexes; the number of classes for an answer that is none of them."""
        return self.probabilities.argmax(axis=1)


def load(directory: str, engine: str, labels: tuple[str, ...], name: str) -> Classifier:
    """Loads a classifier and makes sure that it knows the data set's labels, in whatever order, and no others.

    Raises:
        PipelineError: it cannot be loaded, or it knows other labels.
    """
    model = classifier.load(directory, engine)
    missing, additional = sorted(set(labels) - set(model.labels)), sorted(set(model.labels) - set(labels))
    if missing or additional:
        lacks = f"it lacks {named(missing)}" if missing else ""
        has = f"it also has {named(additional)}" if additional else ""
        raise PipelineError(
            f"{name} {directory} knows other labels than the data set: {' and '.join(filter(None, [lacks, has]))}; "
            "evaluate it on the data set that it was trained on"
        )
    return model


def load_champion(directory: str, labels: tuple[str, ...]) -> Classifier:
    """Loads the classifier to compare with; a collection that grew a class since may be judged all the same.

    Raises:
        PipelineError: it cannot be loaded, or has no label in common with the data set.
    """
    model = classifier.load(directory, "litert")
    if not set(labels) & set(model.labels):
        raise PipelineError(
            f"the champion {directory} has no label in common with the data set: it knows {named(model.labels)}; "
            "give a model of the same question, or none"
        )
    return model


def answers(models: dict[str, Classifier], test: TestSet) -> dict[str, Answers]:
    """The answers of every model (by name), from one pass over the images. Raises PipelineError."""
    progress = Progress(len(test), "pictures")
    parts: dict[str, list[np.ndarray]] = {name: [] for name in models}
    unlike: dict[str, list[np.ndarray]] = {name: [] for name in models}
    # The engines release the interpreter's lock, so several models take hardly longer than the slowest.
    with ThreadPoolExecutor(len(models)) as pool:
        for batch in test.batches(_BATCH):
            for name, found in zip(models, pool.map(_look, models.values(), [batch] * len(models))):
                parts[name].append(_aligned(found[0], models[name].labels, test.labels))
                if (known := models[name].uncertainty) and found[1].shape[1]:
                    unlike[name].append(known.unlike(found[1]))
            progress.update(len(batch))
    strange = {name: np.concatenate(found) if found else None for name, found in unlike.items()}
    return {name: Answers(name, np.concatenate(found), strange[name]) for name, found in parts.items()}


def latency(model: Classifier, test: TestSet) -> float:
    """Median milliseconds for one image, decoding included, on one core of this machine."""
    batch = next(test.batches(_TIMED))
    for picture in batch[:_WARM_UP]:
        model.predict([picture])
    seconds = []
    for picture in batch:
        started = time.perf_counter()
        model.predict([picture])
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds) * 1000)


def _look(model: Classifier, batch: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    try:
        found, features = model.look(batch)
    except imaging.ImageError as error:
        raise PipelineError(f"a picture of the test split cannot be decoded ({error}): run convert again") from error
    if not np.isfinite(found).all() or found.sum(axis=1).min() <= 0:
        raise PipelineError("the model answers with numbers that are no probabilities (NaN or all 0): train it again")
    return found, features


def _aligned(found: np.ndarray, known: list[str], labels: tuple[str, ...]) -> np.ndarray:
    """[n, len(known)] probabilities in the order of `labels`, and the likeliest other one: see Answers."""
    aligned = np.zeros([len(found), len(labels) + 1], found.dtype)
    for column, label in enumerate(labels):
        if label in known:
            aligned[:, column] = found[:, known.index(label)]
    others = [column for column, label in enumerate(known) if label not in labels]
    aligned[:, -1] = found[:, others].max(axis=1, initial=0)
    return aligned
