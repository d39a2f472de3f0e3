"""The classifier's `README.md`: a model card as Hugging Face's hub reads it, with its results as `model-index`.

train writes it with the validation split's results, evaluate again with the test split's. What stands between the two
lines of --- is YAML, written as JSON, which YAML contains. Source: https://huggingface.co/docs/hub/model-cards
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from components.shared.storage import storage

FILE_NAME = "README.md"
MOST_LABELS = 200
# The hub's name of each metric, and what this project calls it.
_METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "f1",
    "top5_accuracy": "top_5_accuracy",
    "log_loss": "log_loss",
    "ece": "ece",
}
_NAMES = {"macro_f1": "F1, mean of the classes", "top5_accuracy": "among the first five", "ece": "calibration error"}


def write(directory: str, card: Mapping[str, Any], split: str, scores: Mapping[str, float]) -> None:
    """Writes the file into the classifier's folder, a path or URI. Raises StorageError.

    Args:
        card: model_card.json.
        split: of which the `scores` are, by the names of _METRICS; others are left out.
    """
    parts = [
        _head(card, split, scores),
        f"# {_cell(_title(card))}",
        _summary(card, split, scores),
        _use(card),
        _limits(card),
    ]
    parts += [_data(card), _training(card), _labels(card["labels"])]
    text = "\n\n".join(filter(None, parts)) + "\n"
    storage.write_bytes(storage.join(directory, FILE_NAME), text.encode())


def _head(card: Mapping[str, Any], split: str, scores: Mapping[str, float]) -> str:
    metrics = [
        {"type": kind, "name": _NAMES.get(name, name.replace("_", " ")), "value": round(float(scores[name]), 6)}
        for name, kind in _METRICS.items()
        if name in scores
    ]
    name, snapshot = str(card.get("name", "classifier")), str(card.get("snapshot", ""))
    data = {"name": _title(card), "type": "museum-classifier", "split": split, "revision": snapshot}
    task = {"type": "image-classification", "name": "Image Classification"}
    values = {
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "museum", "litert", name],
        "model-index": [{"name": name, "results": [{"task": task, "dataset": data, "metrics": metrics}]}],
    }
    return "\n".join(["---", *(f"{name}: {json.dumps(value)}" for name, value in values.items()), "---"])


def _title(card: Mapping[str, Any]) -> str:
    parameters = card.get("data", {}).get("parameters", {})
    return f"Museum objects by {parameters.get('label') or 'class'}"


def _summary(card: Mapping[str, Any], split: str, scores: Mapping[str, float]) -> str:
    examples = card.get("data", {}).get(f"examples_{split}")
    of = f" of {examples:,} {split} images" if examples else f" of the {split} split"
    found = f"{100 * scores['accuracy']:.1f} %{of} are right. " if "accuracy" in scores else ""
    name, created = card.get("name", "classifier"), card.get("created", "")
    return f"A {name} that tells {len(card['labels'])} classes apart. {found}Trained {created}."


def _use(card: Mapping[str, Any]) -> str:
    return (
        f"## Intended use\n\n{card.get('intended_use', '')}\n\n"
        "`model.tflite` takes pixels, 0 to 255, and answers calibrated probabilities and the features before the head; "
        "`1/` is a SavedModel that takes encoded images; `model.keras` is there to train on. `labels.txt` has the "
        "classes, in the order of the probabilities."
    )


def _limits(card: Mapping[str, Any]) -> str:
    return (
        "## Limits\n\nIt knows no other class than those below, and answers one of them to every image. It was tested "
        "on images of the same collection; on others it may be much worse. Labels are the museum's, mistakes included."
    )


def _data(card: Mapping[str, Any]) -> str:
    data = card.get("data", {})
    rows = [f"| {name.removeprefix('examples_')} images | {count:,} |" for name, count in data.items()
            if name.startswith("examples_")]  # fmt: skip
    rows += [f"| {name} | {_cell(value)} |" for name, value in data.get("parameters", {}).items() if value]
    rows += [f"| snapshot | `{card.get('snapshot', '')}` |"]
    return "\n".join(["## Data", "", "| | |", "|---|---|", *rows])


def _training(card: Mapping[str, Any]) -> str:
    rows = [f"| {name} | {_cell(value)} |" for name, value in card.get("parameters", {}).items() if value != ""]
    return "\n".join(["## Training", "", "| parameter | value |", "|---|---|", *rows])


def _labels(labels: Sequence[str]) -> str:
    shown = [f"- {_cell(label)}" for label in labels[:MOST_LABELS]]
    more = [f"- and {len(labels) - MOST_LABELS:,} more: see labels.txt"] if len(labels) > MOST_LABELS else []
    return "\n".join([f"## The {len(labels)} classes", "", *shown, *more])


def _cell(value: object) -> str:
    """On one line of a table, with nothing that Markdown or HTML would take for its own."""
    text = " ".join(str(value).split())
    for character in "\\`*_[]<>|#":
        text = text.replace(character, f"\\{character}")
    return text
