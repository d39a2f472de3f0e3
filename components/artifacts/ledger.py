"""What the steps of earlier runs read from a store, so that the first step of the next run sees what is gone.

KFP takes a step's result from its cache without a look at the store: a bucket's rule that deletes what is old, or a
person who does, makes every later run fail at the first step that reads it (kubeflow/pipelines#7939). So the folder
ROOT/PIPELINE/.ledger has one small file per step that ran, with the URIs of what it read. What the probe misses of it
becomes a part of the state in query's cache key, and all steps run again.

    <hash>.json   URIs of files and folders, as a JSON list
    <hash>.gone   one of them was missed; stays, since the cache remembers as well

Only what a step has read is noted: what it writes may not be in the store yet when another run's probe looks.
"""

import hashlib
import json
from collections.abc import Iterable

from components.shared.storage import storage

FOLDER = ".ledger"
_NOTE, _GONE = ".json", ".gone"


def note(artifact: str, uris: Iterable[str]) -> None:
    """Writes down that the step that makes `artifact` (its URI) read `uris`; of a local run nothing."""
    root = _root(artifact)
    if not root:
        return
    text = json.dumps(sorted(uris))
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    try:
        storage.write_bytes(storage.join(root, FOLDER, name + _NOTE), text.encode())
    except storage.StorageError as error:  # the step's own work is done, and worth more
        print(f"cannot note for later runs what this step read: {error}", flush=True)


def losses(artifact: str) -> list[str]:
    """Entries, of the pipeline that makes `artifact` (its URI), of which something was or is missed; noted as such."""
    root = _root(artifact)
    try:
        lost = _losses(root) if root else []
    except storage.StorageError as error:
        print(f"cannot see whether the store still has what the cache remembers: {error}", flush=True)
        return []
    if lost:
        print(f"files of earlier runs are gone ({len(lost)} entries of {root}/{FOLDER}): their results are not reused")
    return lost


def forget(root: str, run: str) -> None:
    """Removes the entries that name a run below `root`, which KFP has forgotten. Raises StorageError."""
    for file in storage.list_files(storage.join(root, FOLDER)):
        if file.uri.endswith(_NOTE) and any(f"/{run}/" in uri for uri in _noted(file.uri)):
            storage.delete(file.uri)


def _root(uri: str) -> str:
    """ROOT/PIPELINE of an artifact, which KFP puts at ROOT/PIPELINE/RUN/TASK/SALT/NAME; empty for a local one."""
    return uri.rsplit("/", 4)[0] if storage.local_path(uri) is None else ""


def _losses(root: str) -> list[str]:
    entries = [file.uri for file in storage.list_files(storage.join(root, FOLDER))]
    lost = {uri.removesuffix(_GONE) for uri in entries if uri.endswith(_GONE)}
    there: dict[str, set[str]] = {}
    for uri in (uri for uri in entries if uri.endswith(_NOTE)):
        if not all(_is_there(noted, root, there) for noted in _noted(uri)):
            entry = uri.removesuffix(_NOTE)
            lost.add(entry)
            storage.write_bytes(entry + _GONE, b"gone")
            storage.delete(uri)
    return sorted(entry.rpartition("/")[2] for entry in lost)


def _noted(uri: str) -> list[str]:
    try:
        return json.loads(storage.read_bytes(uri))
    except storage.NotFound:  # another run's probe noted the loss this moment
        return []


def _is_there(uri: str, root: str, there: dict[str, set[str]]) -> bool:
    """Whether the file, or anything in the folder, `uri` is stored; `there` has what was listed, by run."""
    below, _, rest = uri.partition(f"{root}/")
    if below or not rest:  # not below the root: images that were given as records, for instance
        return True
    run = rest.partition("/")[0]
    if run not in there:
        there[run] = {file.uri for file in storage.list_files(storage.join(root, run))}
    return uri in there[run] or any(file.startswith(f"{uri}/") for file in there[run])
