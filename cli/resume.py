"""`pipeline.py run --resume NAME=VALUE`: what of a run is still good when some of its parameters change."""

import shutil
from typing import Any, Iterable

from cli import runs

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

    kfp's cache takes a step whose outputs are gone for one that has not run; the earlier ones stay finished.
    """
    changed = {name for name, value in values.items() if run.summary["parameters"].get(name) != value}
    first = _first_stage(changed)
    names = list(_FOLDERS)
    for name in names[names.index(first) :] if first else ():
        for folder in run.artifacts.glob(_FOLDERS[name]):
            shutil.rmtree(folder)
    run.summary["parameters"].update(values)
    run.save()


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
