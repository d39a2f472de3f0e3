"""`pipeline.py runs`: the runs of this machine, and the removal of those that are named."""

import argparse
import contextlib
import json
from pathlib import Path
from typing import Any

from cli import gc, needs, resume, runs, stored_runs
from components.artifacts import dataset
from components.shared.display import one_line
from components.shared.errors import PipelineError
from components.shared.storage import storage

_HEADINGS = ("run", "status", "label", "model", "accuracy", "size", "")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `runs`."""
    parser.add_argument("--root", default="runs", help="folder of the runs (default: runs)")
    remove = "remove these runs; gc --older-than 30d removes old ones"
    parser.add_argument("--remove", nargs="+", default=[], metavar="NAME", help=remove)


def main(options: argparse.Namespace) -> int:
    """Lists the runs, the last written first, or removes those of --remove."""
    if storage.local_path(options.root) is None:
        raise PipelineError(f"--root {options.root} is no folder of this machine; see what it holds with gc --root")
    found = stored_runs.stored(options.root)
    if options.remove:
        return _remove(options.root, found, options.remove)
    rows = [_row(options.root, run) for run in found if not run.is_half_removed]
    if not rows:
        print(f"no run in {options.root}")
        return 0
    widths = [max(len(row[column]) for row in [_HEADINGS, *rows]) for column in range(len(_HEADINGS))]
    for row in [_HEADINGS, *rows]:
        print("  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _remove(root: str, found: list[stored_runs.StoredRun], names: list[str]) -> int:
    """Removes all of `names`, or, if one of them cannot go, none. Raises PipelineError."""
    by_name = {run.name: run for run in found}
    nobody = needs.Asked()
    for name in names:
        if name not in by_name:
            raise PipelineError(f"there is no run {name} in {root}, nothing was removed; list them with: runs")
        reason = nobody.needs(root, [by_name[name]]).get(name, "")
        if reason and not reason.startswith(runs.LATEST):
            raise PipelineError(f"{name}: {reason}; nothing was removed")
    for name in dict.fromkeys(names):
        gc.remove(root, by_name[name], nobody)
        print(f"removed {name} ({gc.size(by_name[name].size)})")
    return 0


def _label(run: runs.Run) -> str:
    """What the run learned: an empty parameter leaves it to the source, which only the data set knows."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        return json.loads((run.artifacts / resume.DATASET / dataset.FILE_NAME).read_text())["parameters"]["label"]
    return run.summary["parameters"].get("label", "")


def _row(root: str, run: stored_runs.StoredRun) -> tuple[str, ...]:
    known = runs.open_run(Path(run.uri))
    summary, parameters = known.summary, known.summary["parameters"]
    metrics = summary.get("metrics") or {}
    accuracy = metrics.get("test_accuracy")
    need = needs.Asked().needs(root, [run]).get(run.name, "")
    notes = [need.partition(":")[0], runs.reasons(known) if summary["status"] == runs.REFUSED else ""]
    cells: list[Any] = [
        run.name,
        _status(summary, need),
        _label(known),
        parameters.get("train_model", ""),
        f"{accuracy:.3f}" if isinstance(accuracy, int | float) else "",
        gc.size(run.size),
        "; ".join(note for note in notes if note),
    ]
    return tuple(one_line(str(cell)) for cell in cells)


def _status(summary: dict[str, Any], need: str) -> str:
    if summary["status"] == "running" and need != "runs now":
        return "broken off"  # its process is gone and could not say so
    return summary["status"]
