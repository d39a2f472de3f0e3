"""`pipeline.py gc`: what runs have left below a root, what of it nobody needs, and its removal; and `runs`."""

import argparse
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from cli import needs, runs, stored_runs
from cli.kfp_api import KfpApi, explained
from cli.stored_runs import KFP, StoredRun
from components.artifacts import ledger
from components.shared import kubernetes
from components.shared.display import one_line
from components.shared.errors import PipelineError
from components.shared.storage import storage

_UNITS = {"h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True)
class Entry:
    """A run, and why it stays; empty if it may go."""

    run: StoredRun
    stays: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `gc`."""
    add = parser.add_argument
    add("--root", default="runs", metavar="URI", help="folder whose folders are runs: of this machine, of run --root, "
        "or KFP's, such as minio://mlpipeline/v2/artifacts/museum-classifier (default: runs)")  # fmt: skip
    add("--keep", type=_count, default=None, metavar="N", help="remove what nobody needs, but the N newest runs")
    add("--older-than", type=_seconds, metavar="30d", help="remove what nobody needs and is older (h, d, w)")
    add("--dry-run", action="store_true", help="say what would go, and remove nothing")
    add("--host", default=os.environ.get("KFP_HOST", ""), help="URL of the KFP API server (default: KFP_HOST)")
    add("--token", default=os.environ.get("KFP_TOKEN"), help="bearer token, if it asks for one (default: KFP_TOKEN)")
    add("--no-cluster", action="store_true", help="no cluster serves or runs anything from this root: ask none")


def main(options: argparse.Namespace) -> int:
    """Shows the runs below the root and removes those that may go, if --keep or --older-than says which."""
    found = stored_runs.stored(options.root)
    if not found:
        print(f"no run in {options.root}")
        return 0
    asked = _whom_to_ask(options, found)
    chosen = options.keep is not None or options.older_than is not None
    entries = plan(options.root, found, asked, options.keep or 0, options.older_than or 0)
    print(table(entries))
    going = [entry.run for entry in entries if not entry.stays]
    print(f"{len(found)} runs, {size(sum(run.size for run in found))}; may go: {len(going)}, "
          f"{size(sum(run.size for run in going))}")  # fmt: skip
    if not chosen and going:
        print("to remove those that may go, give --keep N, --older-than 30d or both")
    elif going and options.dry_run:
        print("nothing was removed: --dry-run")
    elif chosen:
        _remove(options.root, going, asked)
    return 0


def plan(root: str, found: list[StoredRun], asked: needs.Asked, keep: int, older_than: float) -> list[Entry]:
    """Which of the runs `found` below `root` stay, and why.

    Args:
        keep: so many of the newest stay.
        older_than: seconds; those written later stay.
    """
    stays = asked.needs(root, found)
    whole = [run for run in found if not run.is_half_removed]
    for run in whole[:keep]:
        stays.setdefault(run.name, f"one of the {keep} newest")
    for run in whole:
        if time.time() - run.modified < older_than:
            stays.setdefault(run.name, f"younger than {older_than / 86400:g} days")
    for run in found:
        if run.is_half_removed:
            stays.pop(run.name, None)
    by_name = {run.name: run for run in found}
    looked: set[str] = set()
    while rest := [name for name in stays if name in by_name and name not in looked]:
        for name in rest:
            looked.add(name)
            for other in asked.names(root, by_name[name]):
                stays.setdefault(other, f"run {name} uses it")
    return [Entry(run, "" if run.is_half_removed else stays.get(run.name, "")) for run in found]


def table(entries: list[Entry]) -> str:
    """The runs as lines for a terminal."""
    width = max(len(entry.run.name) for entry in entries)
    lines = [f"{'run':<{width}}  {'last written':<16}  {'size':>8}"]
    for entry in entries:
        run = entry.run
        written = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.modified))
        why = "its removal was interrupted" if run.is_half_removed else entry.stays
        lines.append(f"{run.name:<{width}}  {written}  {size(run.size):>8}  {one_line(why or 'may go')}")
    return "\n".join(lines)


def size(amount: float) -> str:
    """Bytes for people: 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit in ("B", "kB") else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def remove(root: str, run: StoredRun, asked: needs.Asked) -> None:
    """Removes the run, in an order in which nobody meets a part of it: first KFP forgets what its cache has of it.

    Raises:
        PipelineError: somebody works on it, or KFP or the store refuse.
    """
    local = storage.local_path(root) is not None
    if local and not run.is_half_removed:
        known = runs.open_run(Path(run.uri))
        known.hold()
        try:
            runs.leave_latest(known)
            run.remove()
        finally:
            os.close(known.lock)
        return
    if run.layout == KFP and asked.kfp is not None:
        try:
            asked.kfp.delete_run(run.name)
        except OSError as error:
            raise explained(asked.kfp.host, error) from error
        ledger.forget(root, run.name)
        # The cache has nothing of it any more; a run that began until then may have.
        if reason := asked.needs(root, [run]).get(run.name, ""):
            raise PipelineError(f"{run.name} stays: {reason}; call gc again later")
    run.remove()


def _remove(root: str, going: list[StoredRun], asked: needs.Asked) -> None:
    for run in going:
        # Asked anew before each: a run that began meanwhile may use what this one left.
        reason = "" if run.is_half_removed else asked.needs(root, [run]).get(run.name, "")
        if reason:
            print(f"{run.name} stays: {one_line(reason)}")
            continue
        remove(root, run, asked)
        print(f"removed {run.name.removeprefix(stored_runs.REMOVED)} ({size(run.size)})", flush=True)


def _whom_to_ask(options: argparse.Namespace, found: list[StoredRun]) -> needs.Asked:
    """Of a store one has to ask; a folder of this machine no cluster reads. Raises PipelineError."""
    if storage.local_path(options.root) is not None or options.no_cluster:
        return needs.Asked()
    advice = "if no cluster serves or runs anything from this root, add --no-cluster"
    try:
        cluster = kubernetes.connect(options.kubeconfig, options.context, options.namespace, attempts=3)
    except kubernetes.ClusterError as error:
        raise PipelineError(f"cannot ask what is in service: {error}; {advice}") from error
    kfp = None
    if options.host:
        kfp = KfpApi(options.host, options.token or "")
        kfp.health()
    elif any(run.layout == KFP for run in found):
        raise PipelineError(f"cannot ask KFP what runs: give --host URL, or set KFP_HOST; {advice}")
    return needs.Asked(cluster, kfp, options.namespace)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is no number of runs: 0 or more")
    return int(text)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d{1,6})([hdw])", text, re.ASCII)
    if not match:
        raise argparse.ArgumentTypeError(f"{text} is no age: write 12h, 30d or 8w")
    return int(match[1]) * _UNITS[match[2]]
