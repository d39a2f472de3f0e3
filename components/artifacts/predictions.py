"""Every answer on the test split, and the histogram that a server's answers are compared with: evaluate writes them.

`predictions.parquet` has a row for each image of the test split:

    object_id          string
    label              string        the true class
    predicted          string        the likeliest class
    confidence         float32       probability of the likeliest class
    label_probability  float32       probability of the true class
    probabilities      list<float32> of all classes, in the order of the data set's labels

`reference.json` beside it is the histogram of these answers (see `histogram`), with `versions` (the digests of the
classifier with model.tflite, which the server runs, and with its SavedModel), `accuracy` (the share of the test split
that was right), `snapshot` (of the data set), `refused` (why the model did not pass; empty if it did) and `classifier`
(the URI of its folder: serve deploys it from there, and need not download it).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.shared.errors import PipelineError
from components.shared.storage import storage

TABLE, REFERENCE = "predictions.parquet", "reference.json"
CONFIDENCE_BINS = 20


def histogram(labels: Sequence[str], predictions: np.ndarray, confidences: np.ndarray) -> dict[str, Any]:
    """Of [n] predicted class indexes and confidences: `predictions` {label: count}, `confidence` [CONFIDENCE_BINS
    counts, from 0 to 1], and `window`, their number."""
    counts = np.bincount(predictions, minlength=len(labels))
    # Rounding can lift a certainty a little above 1.
    bins = np.histogram(np.minimum(confidences, 1), bins=CONFIDENCE_BINS, range=(0, 1))[0]
    return {
        "predictions": {label: int(count) for label, count in zip(labels, counts)},
        "confidence": bins.tolist(),
        "window": int(len(predictions)),
    }


def write(
    directory: str,
    labels: Sequence[str],
    object_ids: Sequence[str],
    targets: np.ndarray,
    probabilities: np.ndarray,
    about: dict[str, Any],
) -> None:
    """Writes both files into the local folder `directory`.

    `targets` are the true class indexes [n], `probabilities` [n, classes]; `about` is what reference.json says beside
    the histogram.
    """
    import pyarrow
    from pyarrow import parquet

    folder, likeliest = Path(directory), probabilities.argmax(axis=1)
    folder.mkdir(parents=True, exist_ok=True)
    columns = {
        "object_id": object_ids,
        "label": [labels[index] for index in targets],
        "predicted": [labels[index] for index in likeliest],
        "confidence": probabilities.max(axis=1).astype(np.float32),
        "label_probability": probabilities[np.arange(len(targets)), targets].astype(np.float32),
        "probabilities": list(probabilities.astype(np.float32)),
    }
    parquet.write_table(pyarrow.table(columns), folder / TABLE)
    reference = histogram(labels, likeliest, probabilities.max(axis=1)) | about
    (folder / REFERENCE).write_text(json.dumps(reference, indent=1), encoding="utf-8")


def read(directory: str, columns: Sequence[str], filters: list | None = None) -> list[dict[str, Any]]:
    """Those `columns` of the table in the folder `directory`, a path or URI, a row per image that `filters` let pass.

    Raises:
        PipelineError: there is no table.
    """
    from pyarrow import parquet

    uri = storage.join(directory, TABLE)
    if not storage.exists(uri):
        raise PipelineError(f"{directory} has no {TABLE}: it is not what the evaluate step writes")
    with storage.open_read(uri) as file:
        return parquet.read_table(file, columns=list(columns), filters=filters).to_pylist()


def read_reference(where: str) -> dict[str, Any]:
    """`reference.json` by its path or URI, or that of its folder. Raises PipelineError: it is missing, or no JSON."""
    uri = where if where.endswith(".json") else storage.join(where, REFERENCE)
    try:
        return json.loads(storage.read_bytes(uri))
    except ValueError as error:
        raise PipelineError(f"{uri} is not JSON: give the folder that the evaluate step wrote") from error
