"""Run folders: `runs/<name>/` with summary.json, log.txt, reports and artifacts/.

`runs/latest` is the newest run whose model passed its evaluation: what `serve`, `predict` and `drift` use, and what
`champion=runs/latest/...` has to beat. A run whose model was refused does not move it.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.shell import command, relative
from components.shared.errors import PipelineError
from components.shared.storage import storage

SUMMARY = "summary.json"
LATEST = "latest"
SUCCEEDED, REFUSED, FAILED = "succeeded", "refused", "failed"
REFUSED_STATUS = 3  # exit status: the run did all it had to, and its result is that the model must not be served
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_RESERVED_BYTES = 1 << 18


@dataclass
class Run:
    """One run's folder and the summary that is kept in it.

    `summary`: status (running, succeeded, refused, failed), parameters, tasks [{name, status, seconds}], metrics,
    artifacts, store (URI below which the artifacts are kept too, or empty), verdict {passed, reasons, caveats} of the
    evaluation, error (the one line that says why it failed).
    """

    folder: Path
    summary: dict[str, Any] = field(default_factory=dict)
    lock: int = field(default=-1, repr=False, compare=False)

    @property
    def log(self) -> Path:
        """kfp's raw log of the run."""
        return self.folder / "log.txt"

    @property
    def artifacts(self) -> Path:
        """Folder of the steps' outputs, a folder per task."""
        return self.folder / "artifacts"

    @property
    def cache(self) -> Path:
        """Folder of kfp's cache: which steps have finished, and where their outputs are."""
        return self.folder / ".cache"

    def save(self) -> None:
        """Writes summary.json atomically."""
        storage.write_bytes(str(self.folder / SUMMARY), (json.dumps(self.summary, indent=2) + "\n").encode())

    def hold(self) -> None:
        """Makes this process the only one that works on the run, until it and those that inherit `lock` end.

        Raises:
            PipelineError: another one does.
        """
        if self.lock >= 0:
            return
        self.lock = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self.lock)
            self.lock = -1
            raise PipelineError(f"{self.folder} is still running: wait for its end, or stop it first") from None
        except OSError as error:  # network file systems without locks
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise

    def reserve(self) -> None:
        """Keeps some space on the disk: a run that filled it must still be able to write down that it failed."""
        # Random, so that no file system stores it as nothing.
        (self.folder / ".reserve").write_bytes(os.urandom(_RESERVED_BYTES))

    def release(self) -> None:
        """Gives back what `reserve` took."""
        with contextlib.suppress(OSError):
            (self.folder / ".reserve").unlink()


def create(root: Path, name: str, parameters: dict[str, Any], store: str = "") -> Run:
    """Makes `root/name` (a time stamp if `name` is empty) and holds it.

    Raises:
        PipelineError: the name cannot be one, or the folder exists or cannot be made.
    """
    if name and (not _NAME.fullmatch(name) or name == LATEST):
        raise PipelineError(f"--name {name!r}: use letters, digits, dots, - and _, at most 100, and not {LATEST!r}")
    folder = (root / (name or time.strftime("%Y%m%d-%H%M%S"))).absolute()
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise PipelineError(f"{folder} exists; choose another --name, or continue it with --resume") from None
    except OSError as error:
        raise PipelineError(f"cannot make {folder}: {error.strerror}; choose another --root") from None
    run = Run(folder, {"status": "running", "parameters": parameters, "tasks": [], "metrics": {}, "artifacts": {}})
    if store:
        run.summary["store"] = store
    run.hold()
    run.save()
    return run


def open_run(folder: Path) -> Run:
    """The run in `folder`. Raises PipelineError if there is none."""
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        summary = None
    if not isinstance(summary, dict) or not isinstance(summary.get("parameters"), dict) or "status" not in summary:
        raise PipelineError(f"{folder} is no run: it has no readable {SUMMARY}")
    return Run(folder.resolve(), summary)


def is_run(folder: Path) -> bool:
    """Whether the folder is a run's, one that can be read."""
    try:
        return bool(open_run(folder))
    except PipelineError:
        return False


def unfinished(root: Path, name: str) -> Run:
    """The run `name` in `root`, or the newest that broke off and is not running; held.

    One whose model was refused is at its end: it goes on only by name, with other parameters.

    Raises:
        PipelineError: there is none, or the named one is still running.
    """
    if name:
        run = open_run(root / name)
        run.hold()
        return run
    for run in _newest_first(root):
        with contextlib.suppress(PipelineError):  # still running
            if run.summary["status"] not in (SUCCEEDED, REFUSED):
                run.hold()
                return run
    raise PipelineError(
        f"nothing to resume in {root}: every run there has ended or is running, or there is none; to continue one that "
        "has ended with other parameters, add --name NAME"
    )


def latest(root: Path) -> Run:
    """The newest run whose model passed. Raises PipelineError if there is none."""
    link = root / LATEST
    if link.exists():
        return open_run(link)
    if last := newest_refused(root):
        model = relative(last.summary.get("artifacts", {}).get("model", str(last.artifacts)))
        raise PipelineError(
            f"no run in {root} has a model that passed its evaluation: {last.folder.name} was refused "
            f"({reasons(last)}); to use it all the same, add --model {shlex.quote(model)}"
        )
    raise PipelineError(f"no finished run in {root}; start one with: {command('run')}")


def newest(root: Path) -> Run:
    """The run that was worked on last, whatever became of it. Raises PipelineError if there is none."""
    if (run := next(_newest_first(root), None)) is None:
        raise PipelineError(f"no run in {root}; start one with: {command('run')}")
    return run


def newest_with(root: Path, artifact: str) -> Run:
    """The newest run that has made `artifact`, also one that still works; else `newest`. Raises PipelineError."""
    return next((run for run in _newest_first(root) if (run.artifacts / artifact).exists()), None) or newest(root)


def newest_refused(root: Path) -> Run | None:
    """The newest run whose model was refused, unless one after it passed."""
    for run in _newest_first(root):
        if run.summary["status"] == REFUSED:
            return run
        if run.summary["status"] == SUCCEEDED:
            return None
    return None


def reasons(run: Run) -> str:
    """Why the run's model was refused."""
    return "; ".join(run.summary.get("verdict", {}).get("reasons", ()))


def _newest_first(root: Path) -> Iterator[Run]:
    """The readable runs, the last that was worked on first."""
    for path in sorted(root.glob(f"*/{SUMMARY}"), key=lambda path: path.stat().st_mtime, reverse=True):
        if _NAME.fullmatch(path.parent.name) and path.parent.name != LATEST:
            with contextlib.suppress(PipelineError):
                yield open_run(path.parent)


def leave_latest(run: Run) -> None:
    """Makes `latest`, if it points to this run, point to the newest other one whose model passed, or to none."""
    link = run.folder.parent / LATEST
    if link.resolve() != run.folder.resolve():
        return
    others = (other for other in _newest_first(run.folder.parent) if other.folder.resolve() != run.folder.resolve())
    if passed := next((other for other in others if other.summary["status"] == SUCCEEDED), None):
        point_latest(passed)
    else:
        link.unlink()


def point_latest(run: Run) -> None:
    """Makes `latest` beside the run's folder point to it, atomically."""
    temporary = run.folder.parent / f".latest-{os.getpid()}"
    temporary.symlink_to(run.folder.name)
    temporary.replace(run.folder.parent / LATEST)
