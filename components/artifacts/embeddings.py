"""What a classifier makes of every image of its data set: a vector per object, and what a person wants to know of it.

`embeddings.parquet` stands beside the classifier (components.artifacts.classifier); a row per example of all splits,
sorted by object_id:

    object_id  string
    vector     fixed_size_list<float16>[width], the pooled features before the classifier's head, with unit length: the
               dot product of two is their cosine. `unit` of what Classifier.look gives of an image is the same vector.
    label      string  the name of the class that it was labelled with
    split      string  one of components.artifacts.objects.SPLITS
    title, artist, rights, credit, link  string, as in objects.parquet; empty where the source does not say
    model      string  digest of the classifier (components.artifacts.classifier.digest): the same in all rows
"""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from components.artifacts.objects import ABOUT
from components.shared.errors import PipelineError
from components.shared.storage import storage

if TYPE_CHECKING:
    import pyarrow as pa

FILE_NAME = "embeddings.parquet"
ROWS = 4096  # in hand at a time


@dataclass(frozen=True)
class Embeddings:
    """What `read` returns.

    Attributes:
        works: the columns but `vector` and `model`, in the order of the rows.
        vectors: [n, width] float16, of unit length.
        model: digest of the classifier that computed them; empty where there are none.
    """

    works: "pa.Table"
    vectors: np.ndarray
    model: str


def unit(vectors: np.ndarray) -> np.ndarray:
    """`vectors` [..., width] as float32 with unit length; zeros stay zeros."""
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def write(directory: str, model: str, works: "pa.Table", vectors: np.ndarray) -> None:
    """Writes the file into the local classifier's folder.

    `works` has the columns object_id, label and split, and of ABOUT what is known; `vectors` [n, width] are its rows'
    (of any length; they may lie on disk: ROWS of them are read at a time).
    """
    import pyarrow as pa
    from pyarrow import compute, parquet

    width = vectors.shape[1]
    schema = _schema(width)
    order = compute.sort_indices(works["object_id"]).to_numpy()
    with storage.replacing(os.path.join(directory, FILE_NAME)) as partial:
        with parquet.ParquetWriter(partial, schema, compression="zstd") as writer:
            for first in range(0, len(order), ROWS):
                rows = order[first : first + ROWS]
                flat = pa.array(unit(vectors[rows]).astype(np.float16).reshape(-1))
                columns = _texts(works.take(pa.array(rows)), len(rows))
                columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, width)
                columns["model"] = pa.array([model] * len(rows))
                writer.write_table(pa.table([columns[name] for name in schema.names], schema=schema))


def read(directory: str) -> Embeddings:
    """The embeddings beside the classifier in `directory`, a path or URI.

    Raises:
        PipelineError: there are none, since the model was trained by an older release, or they are damaged.
    """
    import pyarrow as pa
    from pyarrow import parquet

    uri = storage.join(directory, FILE_NAME)
    if not storage.exists(uri):
        raise PipelineError(f"{directory} has no {FILE_NAME}: train the model again, with this release")
    try:
        with storage.open_read(uri) as file:
            table = parquet.read_table(file)
        vectors = table["vector"].combine_chunks()
        values = np.asarray(vectors.flatten()).reshape(len(table), vectors.type.list_size)
        models = table["model"].unique().to_pylist()
    except (pa.ArrowException, KeyError, AttributeError) as error:
        raise PipelineError(f"{uri} is damaged ({error}): train the model again") from error
    if len(models) > 1:
        raise PipelineError(f"{uri} is of {len(models)} models: train the model again")
    return Embeddings(table.drop_columns(["vector", "model"]), values, models[0] if models else "")


def _schema(width: int) -> "pa.Schema":
    import pyarrow as pa

    texts = [(name, pa.string()) for name in ("label", "split", *ABOUT, "model")]
    return pa.schema([("object_id", pa.string()), ("vector", pa.list_(pa.float16(), width)), *texts])


def _texts(works: "pa.Table", count: int) -> dict:
    import pyarrow as pa

    named = ("object_id", "label", "split", *ABOUT)
    empty = pa.array([""] * count)
    return {
        name: works[name].cast(pa.string()).combine_chunks().fill_null("") if name in works.column_names else empty
        for name in named
    }
