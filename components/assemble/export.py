"""An assembled data set as one folder that TensorFlow Datasets reads: `tfds.builder_from_directory(folder)`.

The record files of a run lie in the folders of several steps and still hold the excluded records, so they are copied:
without these, renumbered and named as TFDS wants them. The examples themselves are copied as they are.
"""

import json
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

from components.artifacts import dataset, records
from components.shared.errors import PipelineError
from components.shared.storage import storage

_NAME = "museum"
_FEATURES = "tensorflow_datasets.core.features"
_TYPES = {
    bytes: {
        "pythonClassName": f"{_FEATURES}.image_feature.Image",
        "image": {"dtype": "uint8", "encodingFormat": "jpeg", "shape": {"dimensions": ["-1", "-1", "3"]}},
    },
    str: {"pythonClassName": f"{_FEATURES}.text_feature.Text", "text": {}},
    int: {
        "pythonClassName": f"{_FEATURES}.tensor_feature.Tensor",
        "tensor": {"dtype": "int64", "encoding": "none", "shape": {}},
    },
}


def export(info: dataset.DatasetInfo, folder: str, advance: Callable[[], None] = lambda: None) -> None:
    """Writes the data set into the new local `folder`; `advance` is called after each record file.

    Raises:
        PipelineError: the folder is not empty or none of this machine, or a record file is missing or damaged.
    """
    if "://" in folder:
        raise PipelineError(f"--export {folder}: give a folder of this machine, and copy it to a store afterwards")
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise PipelineError(f"{folder} is a file: name a new folder")
    if os.path.isdir(folder) and os.listdir(folder):
        raise PipelineError(f"{folder} is not empty: name a new folder")
    os.makedirs(folder, exist_ok=True)
    splits = [_export_split(info, name, folder, advance) for name in info.splits if info.splits[name].examples]
    _write_json(folder, "features.json", _features(len(info.labels)))
    with open(os.path.join(folder, "image-class-label.labels.txt"), "w", encoding="utf-8") as file:
        file.write("".join(f"{label}\n" for label in info.labels))
    # Last: a folder with dataset_info.json is complete.
    _write_json(folder, "dataset_info.json", _info(info, splits))


def _export_split(info: dataset.DatasetInfo, name: str, folder: str, advance: Callable[[], None]) -> dict[str, Any]:
    """Copies the record files of a split; returns its entry in dataset_info.json."""
    excluded = info.excluded_ids(name)
    files = [file for file in info.splits[name].files if file.examples]
    lengths: Counter[int] = Counter()
    size = 0
    for number, file in enumerate(files):
        path = os.path.join(folder, f"{_NAME}-{name}.tfrecord-{number:05d}-of-{len(files):05d}")
        with records.RecordWriter(path) as writer, storage.open_read(file.uri) as source:
            for _, payload in records.read_payloads(source, file.uri):
                if records.decode(payload).object_id not in excluded:
                    writer.write(payload)
                    lengths[number] += 1
                    size += len(payload)
        advance()
    return {
        "name": name,
        "shardLengths": [str(lengths[number]) for number in range(len(files))],
        "numBytes": str(size),
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    }


def _info(info: dataset.DatasetInfo, splits: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": _NAME,
        "version": "1.0.0",
        "description": f"{len(info.labels)} classes of museum pictures; snapshot {info.snapshot}.",
        "fileFormat": "tfrecord",
        "splits": splits,
    }


def _features(classes: int) -> dict[str, Any]:
    """features.json: SCHEMA, whose names TFDS sees as nested dictionaries (image/class/label: image, class, label)."""
    root: dict[str, Any] = {}
    for name, (_, kind) in records.SCHEMA.items():
        *parents, leaf = name.split("/")
        node = root
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = _TYPES[kind]
    root["image"]["class"]["label"] = {
        "pythonClassName": f"{_FEATURES}.class_label_feature.ClassLabel",
        "classLabel": {"numClasses": str(classes)},
    }
    return _nested(root)


def _nested(node: dict[str, Any]) -> dict[str, Any]:
    if "pythonClassName" in node:
        return node
    features = {name: _nested(child) for name, child in node.items()}
    return {"pythonClassName": f"{_FEATURES}.features_dict.FeaturesDict", "featuresDict": {"features": features}}


def _write_json(folder: str, name: str, content: dict[str, Any]) -> None:
    storage.write_bytes(os.path.join(folder, name), json.dumps(content, indent=1, ensure_ascii=False).encode())
