"""An assembled data set of coloured pictures, as small as the classifier of colour_model."""

import hashlib
import json
from pathlib import Path

import numpy as np

from components.artifacts import classifier, dataset, predictions, records
from tests.helpers.colour_model import COLOURS, picture


def build(directory: Path, examples: int = 24, wrong: int = 0, shown: str = "") -> str:
    """Writes `dataset.json` and a record file of `examples` in the test split; the first `wrong` are mislabelled.

    `shown` names the colours of the pictures, one letter each, over and over; all three in turn if it is empty.
    """
    labels = list(COLOURS)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "test-00000-of-00001.tfrecord"
    counts = [0, 0, 0]
    with records.RecordWriter(str(path)) as writer:
        for number in range(examples):
            colour = "rgb".index(shown[number % len(shown)]) if shown else number % 3
            index = (colour + (number < wrong)) % 3
            writer.write(records.encode(_record(number, labels[colour], labels[index], index)))
            counts[index] += 1
    size = path.stat().st_size
    file = {"uri": str(path), "examples": examples, "records": examples, "bytes": size}
    split = {"examples": examples, "per_class": counts, "files": [file] if examples else []}
    content = {
        "format": 1, "snapshot": "5" * 64, "labels": labels, "stored_size": 64, "splits": {"test": split},
        "excluded": [], "parameters": {}, "check": {"outcome": "ok", "reasons": []},
    }  # fmt: skip
    (directory / "dataset.json").write_text(json.dumps(content))
    return str(directory)


def evaluate(dataset_dir: str, classifier_dir: str, directory: Path, deployed: str = "", uri: str = "") -> str:
    """Writes what the evaluate step answers to the test split. Returns the directory.

    It says that the classifier was `deployed` (by default `classifier_dir`), and is found at `uri` (by default there).
    """
    model, deployed = classifier.load(classifier_dir), deployed or classifier_dir
    labels = dataset.load(dataset_dir).labels
    examples = list(dataset.read_examples(dataset_dir, "test"))
    order = [model.labels.index(label) for label in labels]
    rows = model.predict([example.encoded for example in examples])[:, order]
    truth, ids = np.array([example.label_index for example in examples], int), [it.object_id for it in examples]
    about = {"classifier": uri or deployed, "versions": [classifier.digest(deployed)]}
    about |= {"accuracy": float((rows.argmax(axis=1) == truth).mean())}
    predictions.write(str(directory), labels, ids, truth, rows, about)
    return str(directory)


def _record(number: int, shown: str, label: str, index: int) -> records.Record:
    data = picture(shown, seed=number)
    return records.Record(f"object-{number}", label, index, data, 60, 80, hashlib.sha256(data).hexdigest())
