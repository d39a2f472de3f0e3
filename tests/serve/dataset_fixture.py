"""An assembled data set of coloured pictures, as small as the classifier of model_fixture."""

import hashlib
import json
from pathlib import Path

from components.shared import records
from tests.serve.model_fixture import COLOURS, picture


def build(directory: Path, examples: int = 24, wrong: int = 0) -> str:
    """Writes `dataset.json` and a record file of `examples` in the test split; the first `wrong` are mislabelled."""
    labels = list(COLOURS)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "test-00000-of-00001.tfrecord"
    counts = [0, 0, 0]
    with records.RecordWriter(str(path)) as writer:
        for number in range(examples):
            shown, index = number % 3, (number + (number < wrong)) % 3
            writer.write(records.encode(_record(number, labels[shown], labels[index], index)))
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


def _record(number: int, shown: str, label: str, index: int) -> records.Record:
    data = picture(shown, seed=number)
    return records.Record(f"object-{number}", label, index, data, 60, 80, hashlib.sha256(data).hexdigest())
