"""An assembled data set: a folder of small files that name the examples, wherever their record files lie.

`dataset.json` is what DatasetInfo says. `examples.parquet` is the merged index of all shards, failures included, sorted
by object_id: the columns of components.artifacts.index but `thumbnail`, and

    kept      bool    whether the object is an example
    reason    string  why it is not: its status if there is no record, or duplicate, near_duplicate, conflict
    conflict  bool    whether an equal image has another label

`labels.txt` has the labels; `croissant.json` tells programs that know Croissant of all this. assemble writes them;
train, evaluate and serve read them.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from components.artifacts import croissant, objects, records
from components.shared.errors import PipelineError
from components.shared.storage import storage
from components.shared.texts import lines_of, read_text
from components.shared.values import clean

if TYPE_CHECKING:
    import pyarrow as pa

FILE_NAME, EXAMPLES = "dataset.json", "examples.parquet"
FORMAT = 1


@dataclass(frozen=True)
class RecordFile:
    """A record file: how many of its records belong to the data set, how many it holds, its size in bytes."""

    uri: str
    examples: int
    records: int
    bytes: int


@dataclass(frozen=True)
class Split:
    """A split: number of examples, examples of each class, its record files."""

    examples: int
    per_class: tuple[int, ...]
    files: tuple[RecordFile, ...]


@dataclass(frozen=True)
class DatasetInfo:
    """`dataset.json`: `snapshot` is the hash of the content, `stored_size` the short side of an image in pixels,
    `selection` where objects went before the images were fetched: (what is left, how many, [(why, how many)]), `path`
    where it was loaded from."""

    snapshot: str
    labels: tuple[str, ...]
    stored_size: int
    splits: dict[str, Split]
    excluded: tuple[dict[str, Any], ...]
    parameters: dict[str, Any]
    check: dict[str, Any]
    selection: tuple[Any, ...] = ()
    path: str = ""

    def excluded_ids(self, split: str) -> frozenset[str]:
        """Objects in the record files of `split` that a reader must skip."""
        return frozenset(row["object_id"] for row in self.excluded if row["split"] == split)


Example = records.Record


def load(path: str) -> DatasetInfo:
    """Loads `dataset.json` by its path or URI, or that of its folder.

    Raises:
        PipelineError: it does not exist, or is not a data set of this format.
    """
    uri = path if path.endswith(".json") else storage.join(path, FILE_NAME)
    try:
        content = json.loads(storage.read_bytes(uri))
    except ValueError as error:
        raise PipelineError(f"{uri} is not JSON ({error}): is it the dataset.json of an assemble step?") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise PipelineError(f"{uri} is not a data set of format {FORMAT}: is it the dataset.json of an assemble step?")
    try:
        return replace(_info(content), path=path)
    except (KeyError, TypeError, ValueError) as error:
        raise PipelineError(
            f"{uri} is incomplete or was changed ({type(error).__name__}: {error}): run the assemble step again"
        ) from error


def write(folder: str, content: Mapping[str, Any], examples: "pa.Table") -> None:
    """Writes the data set into the local `folder`: `content` is dataset.json, `examples` the merged index.

    dataset.json is written last and, if one stands there, removed first: where it is, it belongs to the others.
    """
    from pyarrow import parquet

    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(folder, FILE_NAME))
    # Thumbnails are for finding duplicates and mislabels; no later step wants them.
    examples = examples.drop_columns(["thumbnail"])
    with storage.replacing(os.path.join(folder, EXAMPLES)) as partial:
        parquet.write_table(examples, partial)
    croissant.write(folder, content, examples, EXAMPLES)
    with storage.replacing(os.path.join(folder, objects.LABELS)) as partial:
        objects.write_labels(partial, content["labels"])
    storage.write_bytes(os.path.join(folder, FILE_NAME), json.dumps(content, indent=1, ensure_ascii=False).encode())


def read_index(path: str, columns: Callable[[str], bool] = lambda name: True, filters: Any = None) -> "pa.Table":
    """The merged index of the data set at `path` (as `load` takes it): the `columns` and rows that are wanted.

    Raises:
        PipelineError: it is missing or damaged.
    """
    import pyarrow as pa
    from pyarrow import parquet

    folder = os.path.dirname(path) or "." if path.endswith(".json") else path
    uri = storage.join(folder, EXAMPLES)
    if not storage.exists(uri):
        raise PipelineError(f"{folder} has no {EXAMPLES}: it is not a data set as the assemble step writes it")
    try:
        with storage.open_read(uri) as file:
            names = [name for name in parquet.read_schema(file).names if columns(name)]
            file.seek(0)
            return parquet.read_table(file, columns=names, filters=filters)
    except pa.ArrowException as error:
        raise PipelineError(f"{uri} is damaged ({error}): run the assemble step again") from error


def _info(content: dict[str, Any]) -> DatasetInfo:
    return DatasetInfo(
        snapshot=content["snapshot"],
        labels=tuple(content["labels"]),
        stored_size=content["stored_size"],
        splits={name: _split(value) for name, value in content["splits"].items()},
        excluded=tuple(content["excluded"]),
        parameters=content["parameters"],
        check=content["check"],
        selection=tuple(content.get("selection", ())),
    )


def require_fit(path: str) -> None:
    """Raises PipelineError with the reasons if a rule that the data set must meet failed (see `load` for `path`)."""
    check = load(path).check
    if check["outcome"] == "fail":
        raise PipelineError(
            f"the data set is not fit for training: {'; '.join(check['reasons'])}. The data report of the assemble "
            "step shows more; correct the collection or the parameter named, and run it again"
        )


def expected_classes(value: str) -> set[str]:
    """The names in the parameter `expected_classes`: comma-separated, or a line each in a .txt file (path or URI).

    Raises:
        PipelineError: the file cannot be read, or is no UTF-8 text.
    """
    if not value.endswith(".txt"):
        names = value.split(",")
    else:
        names = lines_of(read_text(value, "expected_classes="))
    return {clean(name) for name in names} - {""}


def read_examples(path: str, split: str) -> Iterator[Example]:
    """The examples of `split`, file by file, each file streamed once; excluded ones are skipped.

    Raises:
        PipelineError: a record file is missing or damaged; the message names the file and the position.
    """
    info = load(path)
    if split not in info.splits:
        raise PipelineError(f"{path} has no split {split!r}; it has {', '.join(info.splits)}")
    excluded = info.excluded_ids(split)
    for file in info.splits[split].files:
        for _, example in read_file(file.uri):
            if example.object_id not in excluded:
                yield example


def read_file(
    uri: str, damaged: Callable[[records.RecordError], None] | None = None
) -> Iterator[tuple[records.Span, Example]]:
    """All records of the record file `uri` with their places, excluded or not.

    With `damaged`, a damaged record is told to it and left out.

    Raises:
        PipelineError: the file is missing, cut off or damaged.
    """
    with storage.open_read(uri) as file:
        for span, payload in records.read_payloads(file, uri, damaged):
            try:
                example = records.decode(payload)
            except records.RecordError as error:
                error = records.RecordError(f"{uri}: record {span.position} (at byte {span.offset}): {error}")
                if damaged is None:
                    raise error from None
                damaged(error)
                continue
            yield span, example


def snapshot(labels: Sequence[str], rows: Iterable[tuple[str, str, int, str]]) -> str:
    """sha256 of all that training sees: labels, and each example's id, split, label index and image's sha256, the
    `rows` sorted by id."""
    digest = hashlib.sha256(json.dumps({"format": FORMAT, "labels": list(labels)}).encode())
    for row in rows:
        digest.update("\t".join(map(str, row)).encode() + b"\n")
    return digest.hexdigest()


def _split(content: dict[str, Any]) -> Split:
    files = tuple(RecordFile(**file) for file in content["files"])
    return Split(content["examples"], tuple(content["per_class"]), files)
