"""What a model suggests for objects that nobody has labelled: annotate writes it.

`suggestions.parquet` has a row per object that has an image, the unsure ones first (see ORDER):

    object_id    string
    title, artist, rights, credit, link  string  as in objects.parquet
    image        string          address of the image
    known_label  string          the label that the collection has; empty for none
    label        string          the one label that cannot be excluded; null where there is none
    reason       string          why there is none: uncertain; null where there is a label
    likeliest    string          the likeliest label, whatever its probability
    probability  float32         of the likeliest
    label_set    list<string>    all labels that cannot be excluded, the likeliest first
    unlike       bool            whether the image is unlike all that the model learned from
    nearest      list<string>    object_ids of the labelled works that are most alike, the nearest first
    model        string          digest of the classifier
    date         string          when it was suggested, ISO 8601 in UTC

`suggestions.csv` has the same, lists parted by LIST_SEPARATOR. `failures.csv` has the objects without an image, with
the reason. `label_next.csv` has LABEL_NEXT_COUNT objects without a label whose label would teach the model most, the
most instructive first. `annotations.jsonld` is a W3C annotation page with one annotation per object.
"""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET, CSV, FAILURES, JSON_LD = "suggestions.parquet", "suggestions.csv", "failures.csv", "annotations.jsonld"
LABEL_NEXT, LABEL_NEXT_COUNT = "label_next.csv", 100
LABEL_NEXT_COLUMNS = ("object_id", "title", "link", "image", "likeliest", "probability", "label_set", "nearest")
PART = "part.parquet"
LABELS = b"labels"  # in the metadata of a part: the classes of its model, as JSON
LIST_SEPARATOR = " | "
NEAREST = 3
FAILURE_COLUMNS = ("object_id", "title", "link", "image", "status", "message")
_TEXTS = ("object_id", "title", "artist", "rights", "credit", "link", "image", "known_label")


def labels_of(schema: "pa.Schema") -> list[str]:
    """The classes of the model that made a part."""
    return json.loads((schema.metadata or {}).get(LABELS, b"[]"))


def schema() -> "pa.Schema":
    """The columns of the table."""
    import pyarrow as pa

    lists = pa.list_(pa.string())
    return pa.schema(
        [
            *((name, pa.string()) for name in (*_TEXTS, "label", "reason", "likeliest")),
            ("probability", pa.float32()),
            ("label_set", lists),
            ("unlike", pa.bool_()),
            ("nearest", lists),
            ("model", pa.string()),
            ("date", pa.string()),
        ]
    )


def part_schema() -> "pa.Schema":
    """Of the part that one shard has: also the objects that failed, with `status` and `message`.

    The others have a `margin` (the likeliest label's probability less the second's) and a `similarity` (the cosine to
    the nearest labelled work), and those that the report or LABEL_NEXT may name a `thumbnail` (JPEG) and a `vector`.
    """
    import pyarrow as pa

    texts = [(name, pa.string()) for name in ("status", "message")]
    numbers = [(name, pa.float32()) for name in ("margin", "similarity")]
    files = [(name, pa.binary()) for name in ("thumbnail", "vector")]
    return pa.unify_schemas([schema(), pa.schema([*texts, *numbers, *files])])
