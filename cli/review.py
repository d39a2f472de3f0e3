"""`pipeline.py review`: opens the reports of a run whose images wait for a person's decision."""

import argparse
import webbrowser
from pathlib import Path

from cli import runs
from components.artifacts import corrections
from components.shared.errors import PipelineError

# Those on which something may be asked: components/shared/report.py, Report.review.
REPORTS = ("assemble/data_report", "evaluate/evaluation_report")
ASKED = b'class="review-item'


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("run", nargs="?", default="", metavar="RUN", help="its name or folder (default: the newest)")
    parser.add_argument("--root", default="runs", help="folder of the runs (default: runs)")


def main(root: Path, options) -> int:
    """Prints and opens the reports of the run (a name below `root`, or a folder; by default the newest with one).

    Raises:
        PipelineError: there is no such run, it has no report yet, or nothing in them is asked.
    """
    run = _run(root, options.run)
    found = [run.artifacts / place for place in REPORTS if (run.artifacts / place).exists()]
    if not found:
        raise PipelineError(f"{run.folder} has no report yet: run its assemble step first")
    pages = [path for path in found if ASKED in path.read_bytes()]
    if not pages:
        print(f"nothing to review in {run.folder.name}: no suspected wrong labels, and no mistakes")
        return 0
    print(f"decide by mouse or keyboard, and save {corrections.FILE_NAME}; then run again with")
    print(f"  label_corrections={corrections.FILE_NAME}")
    for page in pages:
        address = page.resolve().as_uri()
        print(f"  {address}", flush=True)
        webbrowser.open(address)
    return 0


def _run(root: Path, name: str) -> runs.Run:
    if not name:
        return runs.newest_with(root, REPORTS[0])
    folder = root / name
    return runs.open_run(folder if folder.exists() else Path(name))
