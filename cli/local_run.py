"""`pipeline.py run`: the whole graph on this machine, watched, summarised and resumable."""

import contextlib
import dataclasses
import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from cli import closing, events, resume, runs
from cli.display import Board, Display, Stage
from cli.process_group import ProcessGroup
from components.artifacts.verdict import Verdict
from components.artifacts.verdict import load as load_verdict
from components.shared import own_run
from components.shared.errors import PipelineError
from components.shared.storage import storage

STAGES = ("query", "fetch", "assemble", "tensorboard", "train", "evaluate", "serve")
SHARDED = ("fetch",)
LOCATIONS = {
    "dataset": resume.DATASET,
    "model": "train/classifier",
    "predictions": "evaluate/predictions",
    "tensorboard": "tensorboard/logs",
}
METRICS = {"assemble": "data_metrics", "train": "training_metrics", "evaluate": "test_metrics"}
_TAIL_LINES = 25


def run(run_: runs.Run, console: Console) -> int:
    """Executes `run_`, which the caller holds, and keeps its summary.

    Returns:
        the exit status: 0, 1 failed, 3 the model was refused, 130 interrupted.
    """
    shards = int(run_.summary["parameters"]["fetch_shards"])
    board = Board({name: Stage(name, expected=shards if name in SHARDED else 1) for name in STAGES})
    problem, status = "pipeline.py broke off", 1
    # What kfp and the steps leave in the temporary folder goes with the run, however it ends. Not below the run's own
    # folder: sockets are made there, whose paths may have a hundred characters.
    with ProcessGroup() as group, TemporaryDirectory(prefix="museum-", ignore_cleanup_errors=True) as scratch:
        try:
            try:
                _execute(run_, board, console, group, scratch)
                problem = ""
            finally:
                if group.process is not None and group.process.poll() is None and problem:
                    _say(lambda: console.print("stopping… [dim](Ctrl-C again: kill now)[/]"))
                status = group.end()
        except KeyboardInterrupt:
            problem = "interrupted"
        except OSError as error:
            problem = _words(error, run_)
        finally:
            group.end()
            status = _finish(run_, board, console, problem, status)
    return status


def _execute(run_: runs.Run, board: Board, console: Console, group: ProcessGroup, scratch: str) -> None:
    run_.summary.update(status="running")
    for name in ("error", "stopped_at", "log_tail", "verdict"):
        run_.summary.pop(name, None)
    run_.reserve()
    run_.save()
    console.print("[bold]museum-classifier[/]", end=" ")
    console.print(str(run_.folder), highlight=False, markup=False, soft_wrap=True)
    # The lock goes along: were this process killed, the run would still not be anybody's to resume before its end.
    process = group.start(["-m", "cli.execute", str(run_.folder)], _environment(run_, scratch), [run_.lock])
    assert process.stdout is not None
    with Display(board, console) as display, run_.log.open("a", encoding="utf-8") as log:
        for line in process.stdout:
            log.write(line)
            log.flush()
            event = events.parse(line)
            if event is not None:
                _note(event, run_, board, display)
    process.wait()


def _environment(run_: runs.Run, scratch: str) -> dict[str, str]:
    repository = str(Path(__file__).resolve().parent.parent)
    environment = {
        **os.environ,
        own_run.VARIABLE: json.dumps(run_.summary["parameters"]),
        "PYTHONPATH": os.pathsep.join(filter(None, [repository, os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",  # names of classes fit no other encoding, whatever the terminal's is
        "PYTHONIOENCODING": "utf-8",  # which the user may have set, and which would count more
        "TMPDIR": scratch,
        "PROGRESS_SECONDS": "0.5",
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
    }
    if store := run_.summary.get("store", ""):
        environment["ARTIFACT_LOCAL_ROOT"] = str(run_.folder)
        environment["ARTIFACT_STORE_ROOT"] = storage.join(store, run_.folder.name)
    return environment


def _note(event: events.Event, run_: runs.Run, board: Board, display: Display) -> None:
    ended = board.apply(event)
    display.show(event, ended)
    if ended:
        if ended.name == "query" and ended.status != "failed":
            for name in SHARDED:  # shards without objects have no tasks
                board.stages[name].expected = _shards(run_) or board.stages[name].expected
        run_.summary["tasks"] = board.tasks()
        run_.save()


def _finish(run_: runs.Run, board: Board, console: Console, problem: str, status: int) -> int:
    failed = bool(problem) or status != 0
    run_.release()
    board.close(failed)
    run_.summary["tasks"] = board.tasks()
    try:
        run_.summary.update(metrics=_metrics(run_), artifacts=_artifacts(run_))
        if not failed:
            verdict = _judge(run_)
    except (OSError, PipelineError) as error:
        problem, failed = problem or _words(error, run_), True
    if not failed:
        _say(lambda: closing.after_success(run_, verdict, console))
        return 0 if verdict.passed else runs.REFUSED_STATUS
    where = board.culprit or next((stage.name for stage in board.stages.values() if stage.failed), "start")
    run_.summary.update(status=runs.FAILED, stopped_at=where, error=problem or _reason(run_, board))
    with contextlib.suppress(OSError):
        run_.save()
        runs.leave_latest(run_)  # one that was resumed may have lost its model
    _say(lambda: closing.after_failure(run_, console))
    return 130 if problem == "interrupted" else 1


def _judge(run_: runs.Run) -> Verdict:
    """Writes down what the evaluation said; only a model that passed is the latest."""
    verdict = load_verdict(str(run_.artifacts / LOCATIONS["model"])) or Verdict(True, ())
    run_.summary.update(status=runs.SUCCEEDED if verdict.passed else runs.REFUSED, verdict=dataclasses.asdict(verdict))
    run_.save()
    (runs.point_latest if verdict.passed else runs.leave_latest)(run_)
    return verdict


def _say(say: Callable[[], None]) -> None:
    """Prints what can be printed: the terminal may be closed."""
    try:
        say()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _words(error: OSError | PipelineError, run_: runs.Run) -> str:
    if isinstance(error, PipelineError):
        return str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error.filename or run_.folder}): free some space, then continue"
    if isinstance(error, BrokenPipeError):
        return "whatever read the output has gone"
    return f"{error.filename or run_.folder}: {error.strerror or error}"


def _reason(run_: runs.Run, board: Board) -> str:
    """The failed step's own `error:` line; else the last line of the log up to its end, which is kept in `log_tail`."""
    if board.reason or board.errors:
        return board.reason or board.errors[-1]
    try:
        lines = run_.log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        lines = []
    ends = [number for number, line in enumerate(lines) if (event := events.parse(line)) and event.kind == "failed"]
    tail = [line.strip() for line in lines[: ends[-1] if ends else None] if line.strip()][-_TAIL_LINES:]
    run_.summary["log_tail"] = tail
    return f"the step ended unexpectedly: {tail[-1] if tail else 'it said nothing'}"


def _shards(run_: runs.Run) -> int:
    """How many shards query named; 0 if that cannot be read."""
    return len(_recorded(run_, "query").get("parameterValues", {}).get("Output", []))


def _metrics(run_: runs.Run) -> dict[str, Any]:
    """The numbers that the stages logged as KFP Metrics, from the outputs that kfp recorded."""
    found: dict[str, Any] = {}
    for stage, name in METRICS.items():
        recorded = _recorded(run_, stage).get("artifacts", {}).get(name, {}).get("artifacts", [])
        found.update(recorded[0].get("metadata", {}) if recorded else {})
    return found


def _recorded(run_: runs.Run, stage: str) -> dict[str, Any]:
    try:
        return json.loads((run_.artifacts / stage / "executor_output.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):  # not written, or not to its end
        return {}


def _artifacts(run_: runs.Run) -> dict[str, str]:
    found = {name: str(run_.artifacts / path) for name, path in LOCATIONS.items() if (run_.artifacts / path).exists()}
    for name, path in closing.REPORTS.items():
        # KFP gives artifacts no file ending; a browser needs one.
        if (run_.artifacts / path).exists():
            page = run_.folder / f"{name}.html"
            shutil.copyfile(run_.artifacts / path, page)
            found[name] = str(page)
    return found
