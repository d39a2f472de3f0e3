"""`python pipeline.py ...` as a user types it, on a collection that takes seconds."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TINY = ["max_images_per_class=40", "image_size=64", "epochs=2", "shards=2", "min_accuracy=0", "batch_size=16"]


def line(*arguments: object) -> list[str]:
    """The command as a list."""
    return [sys.executable, str(ROOT / "pipeline.py"), *map(str, arguments)]


def command(*arguments: object, **options) -> subprocess.CompletedProcess:
    """The command, run to its end in the project's folder."""
    return subprocess.run(line(*arguments), **{"cwd": ROOT, "capture_output": True, "text": True, **options})


def summary_of(folder: Path) -> dict:
    """summary.json of a run's folder."""
    return json.loads((folder / "summary.json").read_text())


def statuses(folder: Path) -> dict[str, str]:
    """Stage -> status, of a run's folder."""
    return {task["name"]: task["status"] for task in summary_of(folder)["tasks"]}


def processes_of(folder: Path) -> str:
    """What still runs of the run in `folder`: its name is in the command line of every step."""
    return subprocess.run(["pgrep", "-af", str(folder)], capture_output=True, text=True).stdout
