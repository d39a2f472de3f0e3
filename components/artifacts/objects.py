"""The objects that `query` selects, a row per image, and the names of their classes.

`objects.parquet` is what fetch downloads and assemble accounts for, sorted by shard and object_id:

    object_id    string  letters, digits and . _ - alone; unique, and the name of the image everywhere after
    label        string  the name of the class
    label_index  int32   its line in labels.txt, from 0
    split        string  one of SPLITS
    shard        int32   which shard of the collection fetches it
    image_uri    string  where the image is: http(s), gs, s3, a path, or relative to the parameter image_base; of one
                         that was in the collection's own files, a range of bytes: URI#bytes=OFFSET+LENGTH
    group        string  objects of one group are in one split
    title, artist, rights, credit, link   string  what a person wants to know of it; empty where the source does not say
    meta_<name>  string  a column that the evaluation slices by

Its metadata say under SELECTION how it was selected: JSON with `parameters`, and `funnel`, the stages from the whole
collection to what is selected: [name, how many are left, [[why others went, how many], ...]].

`labels.txt` has one label per line; it stands beside the data set and the classifier as well.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from components.shared.errors import PipelineError
from components.shared.texts import lines_of, read_text

SPLITS = ("train", "validation", "test")
LABELS = "labels.txt"
# What a person wants to know of an object: as columns here, in examples.parquet and in embeddings.parquet.
ABOUT = ("title", "artist", "rights", "credit", "link")
SELECTION = "selection"
SLICE_PREFIX = "meta_"
_RANGE = re.compile(r"(.+[.]images)#bytes=(\d{1,18})[+](\d{1,18})", re.DOTALL)
_SHARD = re.compile(r"(\d{5,})-of-(\d{5,})")


def range_address(uri: str, offset: int, length: int) -> str:
    """The address of `length` bytes from `offset` of the file `uri`."""
    return f"{uri}#bytes={offset}+{length}"


def parse_range(address: str) -> tuple[str, int, int] | None:
    """File, offset and length of an address of `range_address`; None for any other."""
    match = _RANGE.fullmatch(address)
    return (match[1], int(match[2]), int(match[3])) if match else None


def shard_name(index: int, shards: int) -> str:
    """`00003-of-00016`."""
    return f"{index:05d}-of-{shards:05d}"


def parse_shard(name: str) -> tuple[int, int]:
    """Index and number of shards of `00003-of-00016`. Raises PipelineError: it is no shard's name."""
    match = _SHARD.fullmatch(name)
    if not match:
        raise PipelineError(f"no shard is called {name!r}: names are like 00003-of-00016")
    return int(match[1]), int(match[2])


def selection(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """`parameters` and `funnel` of a file's metadata; both empty where the query step did not write the file."""
    return {"parameters": {}, "funnel": [], **json.loads((metadata or {}).get(SELECTION.encode(), b"{}"))}


def slices(columns: Iterable[str]) -> list[str]:
    """The names, without prefix, of the columns that the evaluation slices by."""
    return [name.removeprefix(SLICE_PREFIX) for name in columns if name.startswith(SLICE_PREFIX)]


def read_labels(path: str | os.PathLike) -> list[str]:
    """The labels in the file `path`, in the order of their indexes. Raises PipelineError."""
    return lines_of(read_text(os.fspath(path)))


def write_labels(path: str | os.PathLike, labels: Iterable[str]) -> None:
    """Writes `labels` to the local file `path`.

    Raises:
        OSError: it cannot be written.
        ValueError: a label has a line end in it, which would shift all labels after it.
    """
    labels = list(labels)
    for label in labels:
        if "\n" in label or "\r" in label:
            raise ValueError(f"the class {label!r} has a line end in its name")
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write("".join(f"{label}\n" for label in labels))


def web_link(about: Mapping[str, Any]) -> str:
    """The museum's page of an object; only web addresses, since a table can say anything."""
    link = str(about.get("link", ""))
    return link if link.startswith(("https://", "http://")) else ""


def credit_line(about: Mapping[str, Any]) -> str:
    """Artist, credit and rights, as far as they are known, each once."""
    return ". ".join(dict.fromkeys(filter(None, (about.get(name, "") for name in ("artist", "credit", "rights")))))
