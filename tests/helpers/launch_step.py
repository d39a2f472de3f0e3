"""The train step as a process: python -m tests.helpers.launch_step '{"dataset": ..., "settings": {...}, ...}'"""

import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def start(folder: Path, dataset: str, classifier_uri: str = "", environment: dict | None = None, **changes: object):
    """Starts the step; its outputs go to `folder`. `changes` are settings. Returns the process."""
    folder.mkdir(parents=True, exist_ok=True)
    path = str(folder / "classifier")
    arguments = {
        "dataset": dataset,
        "path": path,
        "uri": classifier_uri or path,
        "folder": str(folder),
        "settings": {"logs": str(folder / "logs"), **changes},
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.launch_step", json.dumps(arguments)],
        cwd=REPOSITORY,
        env={**os.environ, "PROGRESS_SECONDS": "0", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen, seconds: float = 600) -> str:
    """Waits for the step to succeed and returns what it printed."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.terminate()
        output = "it took too long:\n" + process.communicate()[0]
    assert process.returncode == 0, output
    return output


def main() -> None:
    from components.shared.errors import reported
    from components.train.launcher.launch import launch
    from tests.helpers.train_settings import NO_RESOURCES, settings

    given = json.loads(sys.argv[1])
    pages = [os.path.join(given["folder"], name) for name in ("curves.html", "leaderboard.html")]
    with reported():
        inputs, outputs = [given["dataset"]] * 2, [given["path"], given["uri"], *pages]
        summary = launch(settings(**given["settings"]), *inputs, *outputs, NO_RESOURCES)
    Path(given["folder"], "metrics.json").write_text(json.dumps(summary.metrics()))


if __name__ == "__main__":
    main()
