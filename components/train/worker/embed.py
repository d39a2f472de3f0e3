"""The vectors of all images of the data set, written beside the exported classifier (components.artifacts.embeddings).

A regression on frozen features has them already, of the examples that it was fitted on. All others, and all of a
network that was trained by steps, are computed by the exported model, as the server computes them of an image.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from components.artifacts import classifier, dataset, embeddings, objects, uncertainty, works
from components.shared.progress import Progress
from components.train.worker import batches, devices, input_pipeline
from components.train.worker.input_pipeline import Examples
from components.train.worker.lite import Runner
from components.train.worker.session import Session


def write(
    session: Session, base: keras.Model, known: np.ndarray | None, output: str, probabilities: np.ndarray
) -> None:
    """Writes the vectors of every stored image, also of those that are excluded, into the classifier's folder `output`.

    And what the model does not know, which hangs on them: components.artifacts.uncertainty.

    `known` [n, width] are the features of training and validation split, in their order; None: there are none.
    `probabilities` [n, classes] are those of the validation split, by a model that has not learned from it.

    Raises:
        Preempted: SIGTERM came meanwhile.
        PipelineError: a record file is missing or damaged.
    """
    rows = {}
    if known is not None and session.settings.quantize == "none":
        rows = {name: row for row, name in enumerate([*session.train.ids, *session.validation.ids])}
    parts = {split: _all(session, split) for split in objects.SPLITS}
    count = sum(len(examples) for examples in parts.values())
    compute = _computing(session, base, output)
    with tempfile.TemporaryFile(dir=session.folder) as file:
        # On disk: of 200,000 images these are a gigabyte, beside the features that are in memory already.
        vectors = np.memmap(file, np.float16, "w+", shape=(count, base.output_shape[-1]))
        start = 0
        for split, examples in parts.items():
            part = vectors[start : start + len(examples)]
            start += len(examples)
            new = [place for place, name in enumerate(examples.ids) if name not in rows]
            for first, values in _chunks(examples, rows, known):
                part[first : first + len(values)] = values
            if new:
                _compute(session, examples.subset(np.array(new)), split, compute, part, np.array(new))
        _measure_uncertainty(session, parts, vectors, probabilities).save(output)  # a part of the digest
        table = _works(session, parts)
        embeddings.write(output, classifier.digest(output), table, vectors)
        works.write(output, table, vectors, _stored(list(parts.values())))


def _all(session: Session, split: str) -> Examples:
    """All that the record files hold of the split. Those of the test split alone are not on this machine yet."""
    return input_pipeline.load_all(session.info, split, f"{session.folder}/{split}", session.stop.check)


def _chunks(examples: Examples, rows: dict[str, int], known: np.ndarray | None) -> Iterator[tuple[int, np.ndarray]]:
    """(first place, vectors [m, width]) of what is known, ROWS at a time; zeros for what is not."""
    for first in range(0, len(examples) if rows else 0, embeddings.ROWS):
        found = np.array([rows.get(name, -1) for name in examples.ids[first : first + embeddings.ROWS]])
        assert known is not None
        yield first, np.where(found[:, None] < 0, 0, embeddings.unit(known[np.maximum(found, 0)]))


def _compute(
    session: Session, examples: Examples, split: str, compute: Callable, part: np.ndarray, places: np.ndarray
) -> None:
    """Fills the `places` of `part` with the vectors of `examples`."""
    progress, batch = Progress(len(examples), f"{split} vectors"), session.settings.evaluation_batch
    pictures = batches.one_pass(examples, session.size, batch, session.view)
    for first, images in zip(range(0, len(examples), batch), pictures):
        session.stop.check("computing the vectors of all images")
        into = places[first : first + batch]
        part[into] = embeddings.unit(compute(images.numpy())[: len(into)])
        progress.update(len(into))


def _measure_uncertainty(
    session: Session, parts: dict[str, Examples], vectors: np.ndarray, probabilities: np.ndarray
) -> uncertainty.Uncertainty:
    names = (name for examples in parts.values() for name in examples.ids)
    rows = {name: row for row, name in enumerate(names)}
    chosen = []
    for examples in (session.train, session.validation):
        some = np.random.default_rng(0).permutation(len(examples))[: uncertainty.MOST]
        chosen.append(vectors[np.sort([rows[examples.ids[place]] for place in some])])
    return uncertainty.fit(probabilities, session.validation.labels, *chosen)


def _stored(parts: list[Examples]) -> Callable[[int], bytes]:
    """The stored image of a row, counted over all `parts`."""
    ends = np.cumsum([len(examples) for examples in parts])

    def jpeg(row: int) -> bytes:
        part = int(np.searchsorted(ends, row, side="right"))
        return parts[part].encoded(row - int(ends[part]) + len(parts[part]))

    return jpeg


def _computing(session: Session, base: keras.Model, output: str) -> Callable[[np.ndarray], np.ndarray]:
    """Features [n, width] of images [n, M, M, 3] uint8: on a GPU by `base`, else, and of int8, by the tflite file."""
    if session.settings.gpus and session.settings.quantize == "none":
        on_device = tf.function(lambda images: base(tf.cast(images, tf.float32), training=False), autograph=False)
        return lambda images: on_device(images).numpy()
    content = Path(output, classifier.TFLITE).read_bytes()
    return Runner(content, devices.cpus(), output=1)


def _works(session: Session, parts: dict[str, Examples]):
    """The table that embeddings.write takes, in the order of `parts`."""
    import pyarrow as pa

    labels = session.info.labels
    table = pa.table(
        {
            "object_id": [name for examples in parts.values() for name in examples.ids],
            "label": [labels[index] for examples in parts.values() for index in examples.labels],
            "split": [split for split, examples in parts.items() for _ in examples.ids],
        }
    )
    about = dataset.read_index(session.info.path, lambda name: name in ("object_id", *embeddings.ABOUT))
    place = {name: row for row, name in enumerate(about["object_id"].to_pylist())}
    rows = pa.array([place.get(name) for name in table["object_id"].to_pylist()], pa.int64())
    for name in set(embeddings.ABOUT) & set(about.column_names):
        table = table.append_column(name, about[name].take(rows))
    return table
