"""`python pipeline.py ...` as a user types it, on a collection that takes seconds."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TINY = ["max_images_per_class=40", "image_size=64", "epochs=2", "shards=2", "batch_size=16"]
TINY += ["min_accuracy=0", "must_beat_guessing=false"]
_HUNG_SECONDS = 300


def line(*arguments: object) -> list[str]:
    """The command as a list."""
    return [sys.executable, str(ROOT / "pipeline.py"), *map(str, arguments)]


def command(*arguments: object, **options) -> subprocess.CompletedProcess:
    """The command, run to its end in the project's folder."""
    return subprocess.run(line(*arguments), **{"cwd": ROOT, "capture_output": True, "text": True, **options})


def started(arguments: list[str], **options) -> subprocess.Popen:
    """A process to be signalled, and its output: as from a terminal, whatever this process itself ignores.

    One that hangs is killed after five minutes, so that its test fails instead of waiting for ever.
    """

    def as_from_a_terminal() -> None:  # a shell's background jobs ignore SIGINT, and so would all that they start
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    options = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} | options
    process = subprocess.Popen(arguments, preexec_fn=as_from_a_terminal, **options)
    watchdog = threading.Timer(_HUNG_SECONDS, process.kill)
    watchdog.daemon = True
    watchdog.start()
    return process


def summary_of(folder: Path) -> dict:
    """summary.json of a run's folder."""
    return json.loads((folder / "summary.json").read_text())


def statuses(folder: Path) -> dict[str, str]:
    """Stage -> status, of a run's folder."""
    return {task["name"]: task["status"] for task in summary_of(folder)["tasks"]}


def processes_of(folder: Path) -> str:
    """What still runs of the run in `folder`: its name is in the command line of every step."""
    return subprocess.run(["pgrep", "-af", str(folder)], capture_output=True, text=True).stdout
