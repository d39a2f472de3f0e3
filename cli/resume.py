"""`pipeline.py run --resume NAME=VALUE`: what of a run is still good when some of its parameters change."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cli import runs, wiring
from components.shared.storage import storage

DATASET = "assemble/dataset"  # below the run's artifacts
# In the order of the graph; fetch lies in a folder per shard.
_FOLDERS = {
    "query": "query",
    "fetch": "for-loop-*/fetch",
    "assemble": "assemble",
    "train": "train",
    "evaluate": "evaluate",
    "serve": "serve",
}


def change(run: runs.Run, values: dict[str, Any]) -> None:
    """Puts `values` into the run's parameters, and takes back every step that one of them reaches.

    A run whose data set was not fit, too many images were missing for instance, takes fetch back too: a museum that was
    down may be up again.

    Raises:
        StorageError: outputs in the run's store could not be removed.
    """
    changed = {name for name, value in values.items() if run.summary["parameters"].get(name) != value}
    first = _first_stage(changed)
    if first != "query" and _is_unfit(run.artifacts / DATASET):
        first = "fetch"
    if first:
        take_back(run, first, keep_pictures="fetch_shards" not in changed)
    run.summary["parameters"].update(values)
    run.save()


def take_back(run: runs.Run, first: str, keep_pictures: bool = True) -> None:
    """Removes the outputs of the stage `first` and of all after it, and what kfp's cache knows of them.

    Images stay, if the shards are the same: fetch knows itself which of them are still good, and must not ask a
    museum for them twice.

    Raises:
        StorageError: outputs in the run's store could not be removed.
    """
    names = list(_FOLDERS)
    for name in names[names.index(first) :]:
        folders = list(run.artifacts.glob(_FOLDERS[name]))
        for folder in folders:
            _remove(folder, "images" if keep_pictures and name == "fetch" else "")
        _forget(run, folders)
        if store := run.summary.get("store", ""):
            _remove_published(storage.join(store, run.folder.name), run, folders)


def _is_unfit(folder: Path) -> bool:
    from components.artifacts import dataset

    return (folder / dataset.FILE_NAME).exists() and dataset.load(str(folder)).check["outcome"] == "fail"


def _remove(folder: Path, keep: str) -> None:
    for path in folder.iterdir():
        if path.name == keep:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    if not keep:
        folder.rmdir()


def _forget(run: runs.Run, folders: Iterable[Path]) -> None:
    """Removes the cache's entries of steps whose outputs lie in `folders`: kfp trusts any output that has a file."""
    marks = [json.dumps(f"{folder}/")[1:-1] for folder in folders]
    for entry in run.cache.glob("*.json"):
        text = entry.read_text(errors="replace")
        if any(mark in text for mark in marks):
            entry.unlink()


def _remove_published(uri: str, run: runs.Run, folders: Iterable[Path]) -> None:
    """The same in the store. Training writes its checkpoints only there, beside what it publishes."""
    for folder in folders:
        for file in storage.list_files(storage.join(uri, str(folder.relative_to(run.folder)))):
            storage.delete(file.uri)


def _first_stage(changed: Iterable[str]) -> str:
    """The earliest stage that takes one of the parameters; empty if none does."""
    changed = set(changed)
    return next((stage for stage in _FOLDERS if changed & set(wiring.inputs(stage).values())), "")
