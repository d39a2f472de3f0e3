"""Suggestions as W3C Web Annotations: https://www.w3.org/TR/annotation-model/, in JSON-LD."""

import json
import uuid
from collections.abc import Iterable
from typing import Any

from components.shared.storage import storage

_CONTEXT = "http://www.w3.org/ns/anno.jsonld"
_NAMESPACE = uuid.UUID("5d1f6d5e-6a0c-5b59-9e0e-0c7f6f0f5a10")  # of annotations of this project


def write(path: str, rows: Iterable[dict[str, Any]]) -> None:
    """Writes an AnnotationPage with one annotation per row of the suggestions to the local file `path`."""
    head = json.dumps({"@context": _CONTEXT, "type": "AnnotationPage"})[:-1]
    with storage.replacing(path) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write(f'{head}, "items": [')
        for number, row in enumerate(rows):
            file.write((",\n" if number else "\n") + json.dumps(annotation(row), ensure_ascii=False))
        file.write("\n]}\n")


def annotation(row: dict[str, Any]) -> dict[str, Any]:
    """One suggestion. Its id hangs on model and object alone: the same suggestion is the same annotation."""
    labels = [row["label"]] if row["label"] is not None else row["label_set"]
    bodies = [
        {"type": "TextualBody", "value": label, "purpose": "classifying", "format": "text/plain"} for label in labels
    ]
    found = {
        "id": f"urn:uuid:{uuid.uuid5(_NAMESPACE, row['model'] + ' ' + row['object_id'])}",
        "type": "Annotation",
        "motivation": "classifying" if len(bodies) == 1 and row["label"] is not None else "questioning",
        "created": row["date"],
        "creator": {"id": f"urn:sha256:{row['model']}", "type": "Software", "name": f"classifier {row['model'][:12]}"},
        "target": {"id": _iri(row["image"]), "type": "Image"} | ({"isPartOf": row["link"]} if row["link"] else {}),
    }
    if len(bodies) > 1:
        return found | {"body": {"type": "Choice", "items": bodies}}
    return found | ({"body": bodies[0]} if bodies else {})


def _iri(address: str) -> str:
    """A path as a file URI, for a target is named by an IRI."""
    return address if "://" in address else "file://" + address
