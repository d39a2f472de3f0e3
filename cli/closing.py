"""What a run says at its end: what to look at, and commands that can be pasted as they stand."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from cli import runs

REPORTS = {
    "profile": "query/profile",
    "data_report": "assemble/report",
    "training_curves": "train/curves",
    "leaderboard": "train/leaderboard",
    "evaluation_report": "evaluate/report",
}
_SCRIPT = Path(__file__).resolve().parent.parent / "pipeline.py"


def command(*arguments: str) -> str:
    """The command line `pipeline.py ARGUMENTS`, with the interpreter that runs now, for a shell in this folder."""
    active = shutil.which("python")
    # The folder tells environments apart; what the link in it leads to does not.
    same = active is not None and Path(active).absolute().parent == Path(sys.executable).absolute().parent
    words = ["python" if same else _relative(sys.executable), _relative(str(_SCRIPT)), *arguments]
    return shlex.join(words)


def root_option(run_: runs.Run) -> list[str]:
    """`--root FOLDER`, where the run is not in the folder that is looked in without it."""
    root = run_.folder.parent
    return [] if root == Path("runs").absolute() else ["--root", _relative(str(root))]


def after_success(run_: runs.Run, served: bool, console: Console) -> None:
    """Prints the accuracy, the links to the reports, and the commands to try the model with."""
    metrics, artifacts = run_.summary["metrics"], run_.summary["artifacts"]
    accuracy = metrics.get("test_accuracy", float("nan"))
    console.print(
        f"\n[bold green]test accuracy {accuracy:.3f}[/] on {metrics.get('examples_test', 0)} pictures, "
        f"trained on {metrics.get('examples_train', 0)}",
        highlight=False,
    )
    if not served:
        console.print("[yellow]not served[/]: the evaluation report says why, or serve=false", highlight=False)
    console.print("\n[bold]Look at[/]")
    for name in REPORTS:
        if name in artifacts:
            link = Path(artifacts[name]).as_uri()
            console.print(f"  {name.replace('_', ' '):<18} {escape(link)}", highlight=False, soft_wrap=True)
    root = root_option(run_)
    console.print("\n[bold]Try[/]")
    for line, what in (
        (command("serve", *root), "a page to classify your own pictures"),
        (f"{command('predict', *root)} IMAGE_OR_URL", "the same on the command line"),
        (command("tensorboard", *root), "the curves"),
        (command("inspect", f"{_relative(artifacts['dataset'])}/dataset.json"), "the data set"),
    ):
        console.print(f"  {escape(line)}   [dim]{what}[/]", highlight=False, soft_wrap=True)


def after_failure(run_: runs.Run, console: Console) -> None:
    """Prints where it stopped and why, where the log is, and how to go on."""
    error = escape(f"{run_.summary['stopped_at']}: {run_.summary['error']}")
    console.print(f"[red]error[/]: {error}", highlight=False, soft_wrap=True)
    resume = command("run", "--resume", "--name", run_.folder.name, *root_option(run_))
    console.print(
        f"log: {escape(str(run_.log))}\ncontinue with: {escape(resume)} [dim]{escape('[NAME=VALUE ...]')}[/]",
        highlight=False,
        soft_wrap=True,
    )


def _relative(path: str) -> str:
    """The path from here, where it lies below; else as it is."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
