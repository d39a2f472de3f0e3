"""The runs and the model that a command means when nothing else is said."""

import sys
from pathlib import Path

from components.shared.display import one_line

MODEL_HELP = "model directory or URI (default: that of the last run whose model passed)"


def local(root: str) -> Path:
    """The folder of the runs; those whose artifacts go to a store keep their summaries and copies in runs/."""
    from components.shared.storage import storage

    path = storage.local_path(root)
    return Path("runs") if path is None else Path(path)


def model(options) -> str:
    """The model to use, a refused one only if it is named; what was refused is said."""
    from cli import runs
    from components.artifacts import verdict

    if options.model:
        if why := verdict.refusal(options.model):
            note(f"its evaluation refused this model: {why}")
        return options.model
    root = local(options.root)
    run = runs.latest(root)
    if refused := runs.newest_refused(root):
        note(f"this is {run.folder.name}; the model of {refused.folder.name} was refused: {runs.reasons(refused)}")
    return run.summary["artifacts"]["model"]


def note(text: str) -> None:
    print(f"note: {one_line(text)}", file=sys.stderr, flush=True)


def tested(options) -> list[str]:
    """The option that tells the server how the run tested its model."""
    accuracy = test_accuracy(options)
    return [] if accuracy is None else ["--test-accuracy", str(accuracy)]


def test_accuracy(options) -> float | None:
    """How the run tested its model; a model given by its path has no run."""
    from cli import runs

    metrics = {} if options.model else runs.latest(local(options.root)).summary.get("metrics", {})
    return metrics.get("test_accuracy")
