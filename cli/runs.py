"""Run folders: `runs/<name>/` with summary.json, log.txt, the reports and artifacts/; `runs/latest` is the last success."""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.shared import storage
from components.shared.errors import PipelineError

SUMMARY = "summary.json"


@dataclass
class Run:
    """One run's folder and the summary that is kept in it.

    `summary`: status (running, succeeded, failed), parameters, tasks [{name, status, seconds}], metrics, artifacts,
    error (the one line that says why it failed).
    """

    folder: Path
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """kfp's raw log of the run."""
        return self.folder / "log.txt"

    @property
    def artifacts(self) -> Path:
        """Folder of the steps' outputs, a folder a task."""
        return self.folder / "artifacts"

    def save(self) -> None:
        """Writes summary.json atomically."""
        storage.write_bytes(str(self.folder / SUMMARY), (json.dumps(self.summary, indent=2) + "\n").encode())


def create(root: Path, name: str, parameters: dict[str, Any]) -> Run:
    """Makes `root/name` (a time stamp if `name` is empty). Raises PipelineError if it exists or cannot be made."""
    folder = (root / (name or time.strftime("%Y%m%d-%H%M%S"))).absolute()
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise PipelineError(f"{folder} exists; choose another --name, or continue it with --resume") from None
    except OSError as error:
        raise PipelineError(f"cannot make {folder}: {error.strerror}; choose another --root") from None
    run = Run(folder, {"status": "running", "parameters": parameters, "tasks": [], "metrics": {}, "artifacts": {}})
    run.save()
    return run


def open_run(folder: Path) -> Run:
    """The run in `folder`. Raises PipelineError if there is none."""
    try:
        return Run(folder.resolve(), json.loads((folder / SUMMARY).read_text()))
    except (OSError, json.JSONDecodeError):
        raise PipelineError(f"{folder} is no run: it has no readable {SUMMARY}") from None


def unfinished(root: Path, name: str) -> Run:
    """The run `name` in `root`, or the newest that did not succeed. Raises PipelineError if there is none."""
    if name:
        return open_run(root / name)
    folders = sorted((path.parent for path in root.glob(f"*/{SUMMARY}")), key=lambda path: path.stat().st_mtime)
    for folder in reversed(folders):
        run = open_run(folder)
        if run.summary["status"] != "succeeded":
            return run
    raise PipelineError(f"nothing to resume in {root}: every run there succeeded, or there is none")


def latest(root: Path) -> Run:
    """The last run that succeeded. Raises PipelineError if there is none."""
    link = root / "latest"
    if not link.exists():
        raise PipelineError(f"no finished run in {root}; start one with: python pipeline.py run")
    return open_run(link)


def point_latest(run: Run) -> None:
    """Makes `latest` beside the run's folder point to it, atomically."""
    temporary = run.folder.parent / f".latest-{os.getpid()}"
    temporary.symlink_to(run.folder.name)
    temporary.replace(run.folder.parent / "latest")
