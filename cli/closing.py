"""What a run says at its end: what to look at, and commands that can be pasted as they stand."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape

from cli import runs
from cli.shell import command, relative
from components.artifacts.verdict import Verdict

REPORTS = {
    "profile": "query/profile",
    "data_report": "assemble/data_report",
    "training_curves": "train/curves",
    "leaderboard": "train/leaderboard",
    "evaluation_report": "evaluate/evaluation_report",
}


def root_option(run_: runs.Run) -> list[str]:
    """`--root FOLDER`, where the run is not in the folder that is looked in without it."""
    root = run_.folder.parent
    return [] if root == Path("runs").absolute() else ["--root", relative(str(root))]


def after_success(run_: runs.Run, verdict: Verdict, console: Console) -> None:
    """Prints the accuracy, whether the model passed, the links to the reports, and commands to go on with."""
    metrics, artifacts = run_.summary["metrics"], run_.summary["artifacts"]
    accuracy = metrics.get("test_accuracy", float("nan"))
    console.print(
        f"\n[bold green]test accuracy {accuracy:.3f}[/] on {metrics.get('examples_test', 0)} pictures, "
        f"trained on {metrics.get('examples_train', 0)}",
        highlight=False,
    )
    if not verdict.passed:
        _print_refusal(verdict, console)
    elif not run_.summary["parameters"].get("serve_enabled", True):
        console.print("[yellow]not deployed[/]: serve_enabled=false", highlight=False)
    console.print("\n[bold]Look at[/]")
    for name in REPORTS:
        if name in artifacts:
            link = Path(artifacts[name]).as_uri()
            console.print(f"  {name.replace('_', ' '):<18} {escape(link)}", highlight=False, soft_wrap=True)
    console.print("\n[bold]Try[/]")
    for line, what in _suggestions(run_, verdict.passed):
        console.print(f"  {escape(line)}   [dim]{what}[/]", highlight=False, soft_wrap=True)


def _print_refusal(verdict: Verdict, console: Console) -> None:
    console.print("[bold red]refused[/]: this model must not be served", highlight=False)
    for reason in verdict.reasons:
        console.print(f"  - {reason}", highlight=False, markup=False, soft_wrap=True)


def _suggestions(run_: runs.Run, passed: bool) -> list[tuple[str, str]]:
    """(command, what it is for); of a refused model none that would serve it."""
    root = root_option(run_)
    look = [
        (command("tensorboard", *root), "the curves"),
        (command("inspect", *root), "the data set"),
    ]
    if passed:
        return [
            (command("serve", *root), "a page to classify your own pictures"),
            (f"{command('predict', *root)} IMAGE_OR_URL", "the same on the command line"),
            *look,
        ]
    again = command("run", "--resume", "--name", run_.folder.name, *root)
    return [*look, (f"{again} NAME=VALUE ...", "the same run with other parameters")]


def after_failure(run_: runs.Run, console: Console) -> None:
    """Prints where it stopped and why, where the log is, and how to go on; the log's end where no step said why."""
    for line in run_.summary.get("log_tail", ()):
        console.print(f"  {line}", style="dim", highlight=False, markup=False, soft_wrap=True)
    error = escape(f"{run_.summary['stopped_at']}: {run_.summary['error']}")
    console.print(f"[red]error[/]: {error}", highlight=False, soft_wrap=True)
    resume = command("run", "--resume", "--name", run_.folder.name, *root_option(run_))
    console.print(
        f"log: {escape(str(run_.log))}\ncontinue with: {escape(resume)} [dim]{escape('[NAME=VALUE ...]')}[/]",
        highlight=False,
        soft_wrap=True,
    )
