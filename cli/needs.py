"""Who needs which run: what a machine holds, what is in service on a cluster, what runs of KFP are under way."""

import contextlib
import fcntl
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cli import runs
from cli.kfp_api import KfpApi, explained
from cli.stored_runs import LAPTOP, StoredRun, named_in, place
from components.artifacts.service import SERVICE_LABEL
from components.serve import services
from components.shared.kubernetes import Cluster, Forbidden
from components.shared.storage import storage

ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
# Below a run's folder: held by each server of its model.
SERVING = ".serving"
# Parameters that name what earlier runs made.
_READ = ("eval_champion", "check_previous_dataset", "train_weights", "data_table")


@dataclass(frozen=True)
class Asked:
    """Whom to ask beside this machine; None: nobody, since nothing of a root is known there."""

    cluster: Cluster | None = None
    kfp: KfpApi | None = None
    namespace: str = ""

    def needs(self, root: str, found: Iterable[StoredRun]) -> dict[str, str]:
        """Names of the runs below `root` that somebody needs now, with the reason. Raises PipelineError."""
        reasons: dict[str, str] = {}
        for run in found:
            if reason := _held(root, run):
                reasons[run.name] = reason
        if storage.local_path(root) is not None and (latest := Path(place(root), runs.LATEST)).exists():
            reasons.setdefault(latest.resolve().name, "latest: what serve, predict and drift use")
        if self.cluster is not None:
            for name, reason in _in_service(self.cluster, root):
                reasons.setdefault(name, reason)
        if self.kfp is not None:
            for name, reason in _under_way(self.kfp, self.namespace, root):
                reasons.setdefault(name, reason)
        return reasons

    def names(self, root: str, run: StoredRun) -> set[str]:
        """The other runs below `root` of which `run` uses something. Raises PipelineError."""
        found = set().union(*(named_in(text, root) for text in run.texts()))
        if storage.local_path(root) is not None:
            if not run.is_half_removed:
                for value in map(runs.open_run(Path(run.uri)).summary["parameters"].get, _READ):
                    if isinstance(value, str) and (path := storage.local_path(value)):
                        found |= named_in(os.path.realpath(path), os.path.realpath(place(root)))
        elif self.kfp is not None and run.layout != LAPTOP:
            with contextlib.suppress(OSError, ValueError):  # KFP does not know the run any more
                found |= named_in(self.kfp.workflow_text(run.name), root)
        return found - {run.name}


def _held(root: str, run: StoredRun) -> str:
    """Whether a process of this machine works on the run, or serves its model."""
    folder = Path(run.uri) if storage.local_path(root) is not None else Path("runs", run.name)
    if run.layout == LAPTOP and is_locked(folder / ".lock"):
        return "runs now"
    return "a server on this machine serves it" if is_locked(folder / SERVING) else ""


def is_locked(path: Path) -> bool:
    """Whether a process holds a lock on the file."""
    try:
        file = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a network file system without locks
        return False
    finally:
        os.close(file)
    return False


def hold_serving(model: str) -> int | None:
    """Marks the run that a local model belongs to as being served, until this process and its children end.

    Returns the file that is held; None where that cannot be, or the model belongs to no run.
    """
    path = storage.local_path(model)
    folders = Path(os.path.abspath(path)).parents if path is not None else ()
    folder = next((folder for folder in folders if (folder / runs.SUMMARY).exists()), None)
    if folder is None:
        return None
    with contextlib.suppress(OSError):  # a folder that is not ours to write to, or without locks
        file = os.open(folder / SERVING, os.O_RDWR | os.O_CREAT, 0o644)
        os.set_inheritable(file, True)
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return file
    return None


def _in_service(cluster: Cluster, root: str) -> Iterable[tuple[str, str]]:
    for namespace in _namespaces(cluster):
        for served in services.status(Cluster(cluster.api, namespace, cluster.attempts)):
            what = f"service {served.name} in {namespace}"
            versions = [(served.main, f"{what} serves it"), (served.canary, f"the canary of {what}")]
            versions += [(version, f"{what} can be rolled back to it") for version in served.earlier]
            for version, reason in versions:
                for name in named_in(place(version.uri) + "/", root) if version and version.uri else ():
                    yield name, reason


def _namespaces(cluster: Cluster) -> list[str]:
    """All namespaces with services of ours; the cluster's own alone, if no other may be looked into."""
    found = {cluster.namespace}
    with contextlib.suppress(Forbidden):
        for path in ("/api/v1/services", "/apis/serving.kserve.io/v1beta1/inferenceservices"):
            with contextlib.suppress(services.kubernetes.NotThere):
                items = cluster.look(path, labelSelector=SERVICE_LABEL)["items"]
                found |= {item["metadata"]["namespace"] for item in items}
    return sorted(found)


def _under_way(kfp: KfpApi, namespace: str, root: str) -> Iterable[tuple[str, str]]:
    """Runs that have not ended, with all that they took from the cache, and what recurring runs name."""
    try:
        for run in kfp.runs(namespace):
            if run.get("state") in ENDED:
                continue
            yield run["run_id"], "KFP runs it now"
            for text in (kfp.workflow_text(run["run_id"]), str(run.get("runtime_config", ""))):
                for name in named_in(text, root):
                    yield name, f"run {run['run_id']} of KFP, under way, uses it"
        for recurring in kfp.recurring_runs(namespace):
            for name in named_in(str(recurring.get("runtime_config", "")), root):
                yield name, f"recurring run {recurring.get('display_name', '')} names it"
    except (OSError, ValueError) as error:
        raise explained(kfp.host, error) from error
