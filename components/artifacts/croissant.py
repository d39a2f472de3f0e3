"""The data set as others read it: `croissant.json` beside dataset.json, metadata in the Croissant 1.1 format.

It describes examples.parquet, a record per object with all of its columns, and names the record files with the images.
Source: https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html
"""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from components.shared.storage import storage

if TYPE_CHECKING:
    import pyarrow as pa

FILE_NAME = "croissant.json"
MOST_RIGHTS = 20
_TERMS = {
    "arrayShape", "citeAs", "column", "conformsTo", "containedIn", "equivalentProperty", "extract", "field",
    "fileProperty", "fileObject", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key",
    "md5", "parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate",
    "separator", "source", "subField", "transform",
}  # fmt: skip
# The context of the specification, which has to be given in full.
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    **{name: f"cr:{name}" for name in sorted(_TERMS)},
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
}
_DESCRIPTIONS = {
    "object_id": "the object's name, unique",
    "label": "the class that it is labelled with",
    "label_index": "the line of the class in labels.txt, from 0",
    "split": "train, validation or test; empty of an object without an image",
    "kept": "whether it is an example: what is not has its reason",
    "record_uri": "the TFRecord file with the image, whose bytes are at offset and length",
    "link": "the object's page in the museum",
}


def write(folder: str, content: Mapping[str, Any], examples: "pa.Table", name: str) -> None:
    """Writes the file into the local `folder`, which has the parquet file called `name` with these `examples`.

    `content` is dataset.json.
    """
    path = os.path.join(folder, name)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    parameters, learned = content["parameters"], content["parameters"].get("label") or "class"
    source = " ".join(filter(None, (str(parameters.get("source", "")), str(parameters.get("table", "")))))
    total = sum(split["examples"] for split in content["splits"].values())
    table = {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "description": "A row per object of the collection, with what became of it.",
        "contentUrl": name,
        "encodingFormat": "application/x-parquet",
        "contentSize": f"{os.path.getsize(path)} B",
        "sha256": digest,
    }
    document = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": f"museum-objects-by-{_slug(learned)}",
        "description": f"{total:,} images of museum objects in {len(content['labels'])} classes of {learned}"
        + (f", from {source}" if source else "")
        + ". The images lie in the TFRecord files that record_uri names.",
        "version": "1.0.0",
        "identifier": content["snapshot"],
        "keywords": ["museum", "image classification", *content["labels"][:20]],
        "distribution": [table],
        "recordSet": [_records(name, examples)],
        **_rights(examples),
    }
    data = json.dumps(document, indent=1, ensure_ascii=False).encode()
    storage.write_bytes(os.path.join(folder, FILE_NAME), data)


def _records(name: str, examples: "pa.Table") -> dict[str, Any]:
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"examples/{field.name}",
            "name": field.name,
            "description": _DESCRIPTIONS.get(field.name, field.name.replace("_", " ")),
            "dataType": kind,
            "source": {"fileObject": {"@id": name}, "extract": {"column": field.name}},
        }
        for field in examples.schema
        if (kind := _data_type(field.type))
    ]
    key = {"@id": "examples/object_id"}
    return {"@type": "cr:RecordSet", "@id": "examples", "name": "examples", "key": key, "field": fields}


def _data_type(kind: "pa.DataType") -> str:
    """Croissant's type of a column; empty for one that it has no type for.

    Whole numbers of 64 bits without a sign have none: mlcroissant reads them as float64.
    """
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "sc:Text"
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind) and not pa.types.is_uint64(kind):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(kind) else ""


def _rights(examples: "pa.Table") -> dict[str, Any]:
    """What the kept objects' rights say, the commonest first; nothing where the collection does not say."""
    from collections import Counter

    if not {"rights", "kept"} <= set(examples.column_names):
        return {}
    counts = Counter(filter(None, examples.filter(examples["kept"])["rights"].to_pylist()))
    found = [text for text, _ in counts.most_common(MOST_RIGHTS)]
    return {"license": found} if found else {}


def _slug(text: str) -> str:
    return "-".join(filter(None, "".join(c if c.isascii() and c.isalnum() else " " for c in text.lower()).split()))
