"""`pipeline.py run --resume NAME=VALUE`: what of a run is still good when some of its parameters change."""

import json
import shutil
from pathlib import Path
from typing import Any, Iterable

from cli import runs
from components.shared import storage

# In the order of the graph; fetch and convert lie in a folder a shard.
_FOLDERS = {
    "query": "query",
    "fetch": "for-loop-*/fetch",
    "convert": "for-loop-*/convert",
    "assemble": "assemble",
    "train": "train",
    "evaluate": "evaluate",
    "serve": "serve",
}


def change(run: runs.Run, values: dict[str, Any]) -> None:
    """Puts `values` into the run's parameters, and removes the outputs of every step that one of them reaches.

    Raises:
        StorageError: outputs in the run's store could not be removed.
    """
    changed = {name for name, value in values.items() if run.summary["parameters"].get(name) != value}
    first = _first_stage(changed)
    names = list(_FOLDERS)
    for name in names[names.index(first) :] if first else ():
        folders = set(run.artifacts.glob(_FOLDERS[name]))
        # Fetch knows itself which of its pictures are still good, and must not ask the museum for them twice.
        keep = "images" if name == first == "fetch" else ""
        for folder in folders:
            _remove(folder, keep)
        _forget(run, folders)
        if store := run.summary.get("store", ""):
            _remove_published(storage.join(store, run.folder.name, run.artifacts.name), run, _FOLDERS[name], folders)
    run.summary["parameters"].update(values)
    run.save()


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


def _remove_published(artifacts: str, run: runs.Run, pattern: str, folders: Iterable[Path]) -> None:
    """The same in the store. Training writes its checkpoints there only, beside what it publishes."""
    names = {str(folder.relative_to(run.artifacts)) for folder in folders}
    for name in names if "*" in pattern else names | {pattern}:
        for file in storage.list_files(storage.join(artifacts, name)):
            storage.delete(file.uri)


def _first_stage(changed: Iterable[str]) -> str:
    """The earliest stage that takes one of the parameters; empty if none does."""
    import pipeline

    spec = pipeline.pipeline.pipeline_spec
    taken: dict[str, set[str]] = {}
    for dag in [spec.root.dag, *(part.dag for part in spec.components.values() if part.HasField("dag"))]:
        for name, task in dag.tasks.items():
            inputs = {value.component_input_parameter for value in task.inputs.parameters.values()}
            taken[name] = {text.removeprefix("pipelinechannel--") for text in inputs}
    return next((stage for stage in _FOLDERS if taken.get(stage, set()) & set(changed)), "")
