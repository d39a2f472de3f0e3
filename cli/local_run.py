"""`pipeline.py run`: the whole graph on this machine, watched, summarised and resumable."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from cli import events, runs
from cli.display import Board, Display, Stage
from components.shared import storage

STAGES = ("query", "fetch", "convert", "assemble", "tensorboard", "train", "evaluate", "serve")
SHARDED = ("fetch", "convert")
REPORTS = {
    "profile": "query/profile",
    "data_report": "assemble/report",
    "training_curves": "train/curves",
    "leaderboard": "train/leaderboard",
    "evaluation_report": "evaluate/report",
}
LOCATIONS = {
    "dataset": "assemble/dataset",
    "model": "train/classifier",
    "predictions": "evaluate/predictions",
    "tensorboard": "tensorboard/logs",
}
METRIC_STAGES = ("assemble", "train", "evaluate")
_GRACE_SECONDS = 20


def run(run_: runs.Run, store: str, console: Console) -> int:
    """Executes `run_` and keeps its summary; returns the exit status: 0, 1 failed, 130 interrupted."""
    shards = int(run_.summary["parameters"]["shards"])
    board = Board({name: Stage(name, expected=shards if name in SHARDED else 1) for name in STAGES})
    run_.summary.update(status="running")
    run_.summary.pop("error", None)
    run_.save()
    console.print(f"[bold]museum-classifier[/] {run_.folder}", highlight=False)
    process = _start(run_, store)
    interrupted = False
    try:
        with Display(board, console) as display, run_.log.open("a") as log:
            _follow(process, run_, board, display, log)
    except KeyboardInterrupt:
        interrupted = True
        _end(process)
    status = process.wait()
    return _finish(run_, board, console, failed=interrupted or status != 0, interrupted=interrupted)


def _start(run_: runs.Run, store: str) -> subprocess.Popen:
    repository = str(Path(__file__).resolve().parent.parent)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [repository, os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
        "PROGRESS_SECONDS": "0.5",
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
    }
    if store:
        environment["ARTIFACT_LOCAL_ROOT"] = str(run_.folder)
        environment["ARTIFACT_STORE_ROOT"] = storage.join(store, run_.folder.name)
    # A session of its own: Ctrl-C reaches only us, and ending its group ends every step and worker.
    signal.signal(signal.SIGTERM, _interrupt)
    return subprocess.Popen(
        [sys.executable, "-m", "cli.execute", str(run_.folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    )


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _follow(process: subprocess.Popen, run_: runs.Run, board: Board, display: Display, log) -> None:
    for line in process.stdout:
        log.write(line)
        log.flush()
        event = events.parse(line)
        if event is None:
            continue
        ended = board.apply(event)
        display.show(event, ended)
        if ended:
            run_.summary["tasks"] = board.tasks()
            run_.save()


def _end(process: subprocess.Popen) -> None:
    """Ends the run's process group: politely, so that training writes its checkpoint, then for good."""
    for number, seconds in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, 5)):
        try:
            os.killpg(process.pid, number)
            process.communicate(timeout=seconds)  # reads on, so that no step dies of a full pipe
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _finish(run_: runs.Run, board: Board, console: Console, failed: bool, interrupted: bool) -> int:
    board.close(failed)
    run_.summary.update(
        status="failed" if failed else "succeeded",
        tasks=board.tasks(),
        metrics=_metrics(run_),
        artifacts=_artifacts(run_),
    )
    if not failed:
        run_.save()
        runs.point_latest(run_)
        _next_steps(run_, board, console)
        return 0
    where = next((stage.name for stage in board.stages.values() if stage.failed), "start")
    run_.summary["stopped_at"] = where
    run_.summary["error"] = "interrupted" if interrupted else _reason(run_, board)
    run_.save()
    console.print(f"[red]error[/]: {where}: {run_.summary['error']}", highlight=False, soft_wrap=True, markup=True)
    resume = f"{_command()} run --resume {_root_option(run_)}"
    console.print(f"log: {run_.log}\ncontinue with: {resume} [dim][NAME=VALUE ...][/]", highlight=False, soft_wrap=True)
    return 130 if interrupted else 1


def _reason(run_: runs.Run, board: Board) -> str:
    if board.errors:
        return board.errors[-1]
    tail = [line.rstrip() for line in run_.log.read_text(errors="replace").splitlines() if line.strip()][-25:]
    return "the step ended unexpectedly; the end of its log:\n" + "\n".join(tail)


def _root_option(run_: runs.Run) -> str:
    root = run_.folder.parent
    return f"--name {run_.folder.name}" + ("" if root == Path("runs").absolute() else f" --root {root}")


def _command() -> str:
    return "python pipeline.py"


def _metrics(run_: runs.Run) -> dict[str, Any]:
    """The numbers that the stages logged as KFP Metrics, from the outputs that kfp recorded."""
    found: dict[str, Any] = {}
    for stage in METRIC_STAGES:
        path = run_.artifacts / stage / "executor_output.json"
        if path.exists():
            recorded = json.loads(path.read_text()).get("artifacts", {}).get("metrics", {}).get("artifacts", [])
            found.update(recorded[0].get("metadata", {}) if recorded else {})
    return found


def _artifacts(run_: runs.Run) -> dict[str, str]:
    found = {name: str(run_.artifacts / path) for name, path in LOCATIONS.items() if (run_.artifacts / path).exists()}
    for name, path in REPORTS.items():
        # KFP gives artifacts no file ending; a browser needs one.
        if (run_.artifacts / path).exists():
            page = run_.folder / f"{name}.html"
            shutil.copyfile(run_.artifacts / path, page)
            found[name] = str(page)
    return found


def _next_steps(run_: runs.Run, board: Board, console: Console) -> None:
    metrics, artifacts = run_.summary["metrics"], run_.summary["artifacts"]
    accuracy = metrics.get("test_accuracy", float("nan"))
    console.print(
        f"\n[bold green]test accuracy {accuracy:.3f}[/] on {metrics.get('examples_test', 0)} pictures, "
        f"trained on {metrics.get('examples_train', 0)}",
        highlight=False,
    )
    if board.stages["serve"].status == "skipped":
        console.print("[yellow]not served[/]: the evaluation report says why, or serve=false", highlight=False)
    console.print("\n[bold]Look at[/]")
    for name in REPORTS:
        if name in artifacts:
            console.print(f"  {name.replace('_', ' '):<18} file://{artifacts[name]}", highlight=False, soft_wrap=True)
    root = run_.folder.parent
    option = "" if root == Path("runs").absolute() else f" --root {root}"
    console.print("\n[bold]Try[/]")
    for command, what in (
        ("serve", "a page to classify your own pictures"),
        ("predict IMAGE_OR_URL", "the same on the command line"),
        ("tensorboard", "the curves"),
        (f"inspect {_relative(artifacts['dataset'])}/dataset.json", "the data set"),
    ):
        suffix = "" if command.startswith("inspect") else option
        console.print(f"  {_command()} {command}{suffix}   [dim]{what}[/]", highlight=False, soft_wrap=True)


def _relative(path: str) -> str:
    return os.path.relpath(path) if not os.path.relpath(path).startswith("..") else path
