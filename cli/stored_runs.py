"""The runs below a root, wherever that is: a folder of this machine, a bucket of `run --root`, KFP's pipeline root.

A removal never leaves a run that looks whole: a local folder is renamed before its files go, and one in a store is
marked first. What an interrupted removal left is found by the name or the mark, and removed by the next one.
"""

import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cli import runs
from components.artifacts import dataset, ledger
from components.shared.errors import PipelineError
from components.shared.storage import storage

LAPTOP, KFP = "laptop", "kfp"
REMOVED = ".removed-"
_MARK = ".removing"
# Where every run leaves something first, and nobody else does: the probe's output (in a store), the summary (here).
_LAYOUTS = {LAPTOP: re.compile(r"artifacts/probe/"), KFP: re.compile(r"probe/[^/]+/state$")}
# Small files that name files of other runs: what a step took from KFP's cache lies in the run that made it.
_NAMING = (dataset.FILE_NAME, "settings.json", runs.SUMMARY)
_WORKERS = 16


@dataclass(frozen=True)
class StoredRun:
    """One run's folder: `layout` is LAPTOP or KFP; `size` in bytes, `modified` in seconds since 1970."""

    name: str
    uri: str
    layout: str
    files: tuple[storage.FileInfo, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def modified(self) -> float:
        return max((file.modified for file in self.files), default=0.0)

    @property
    def is_half_removed(self) -> bool:
        """Whether a removal of it was interrupted."""
        return self.name.startswith(REMOVED) or any(file.uri == storage.join(self.uri, _MARK) for file in self.files)

    def texts(self) -> Iterator[str]:
        """What its small files say."""
        for file in self.files:
            if file.uri.rpartition("/")[2] in _NAMING:
                yield storage.read_bytes(file.uri).decode(errors="replace")

    def remove(self) -> None:
        """Removes all its files. Raises StorageError, OSError; what is left then is removed by the next call."""
        if storage.local_path(self.uri) is not None:
            return self._remove_here()
        mark = storage.join(self.uri, _MARK)
        storage.write_bytes(mark, b"")
        while rest := [file.uri for file in storage.list_files(self.uri) if file.uri != mark]:
            with ThreadPoolExecutor(_WORKERS) as pool:
                list(pool.map(storage.delete, rest))
        storage.delete(mark)

    def _remove_here(self) -> None:
        folder = Path(self.uri)
        if not self.name.startswith(REMOVED):
            folder = folder.rename(folder.with_name(f"{REMOVED}{self.name}"))
        shutil.rmtree(folder)


def place(uri: str) -> str:
    """`uri` without what may be spelt in two ways: the scheme of a store, the way to a local folder."""
    path = storage.local_path(uri)
    return uri.partition("://")[2].strip("/") if path is None else os.path.abspath(path)


def named_in(text: str, root: str) -> set[str]:
    """Names of the runs below `root` that a text mentions by a path or URI."""
    return set(re.findall(rf"{re.escape(place(root))}/+([A-Za-z0-9._-]+)(?=[/\"'\s\\]|$)", text))


def stored(root: str) -> list[StoredRun]:
    """The runs below `root`, the last written first; half removed ones among them.

    Raises:
        PipelineError: there is something, but no run of this pipeline, or it cannot be read.
    """
    found, others = _in_store(root.rstrip("/")) if storage.local_path(root) is None else _here(Path(place(root)))
    if others and not found:
        raise PipelineError(f"{root} holds no run of this pipeline, nothing was changed{_hint(root, others)}")
    return sorted(found, key=lambda run: run.modified, reverse=True)


def _here(root: Path) -> tuple[list[StoredRun], list[str]]:
    """The runs, and the names of what else there is; of that nothing is listed."""
    if not root.is_dir():
        raise PipelineError(f"{root} is no folder; give the --root of your runs")
    found, others = [], []
    for folder in root.iterdir():
        if folder.is_symlink() or not (folder.name.startswith(REMOVED) or runs.is_run(folder)):
            others.append(folder.name)
            continue
        found.append(StoredRun(folder.name, str(folder), LAPTOP, tuple(storage.list_files(str(folder)))))
    return found, others


def _in_store(root: str) -> tuple[list[StoredRun], list[str]]:
    groups: dict[str, list[storage.FileInfo]] = {}
    for file in storage.list_files(root):
        groups.setdefault(file.uri[len(root) + 1 :].partition("/")[0], []).append(file)
    groups.pop(ledger.FOLDER, None)
    found, others = [], []
    for name, files in groups.items():
        uri = storage.join(root, name)
        if layout := _layout([file.uri[len(uri) + 1 :] for file in files]):
            found.append(StoredRun(name, uri, layout, tuple(files)))
        else:
            others.append(name)
    return found, others


def _layout(paths: list[str]) -> str:
    if _MARK in paths:
        return KFP if not any(path.startswith("artifacts/") for path in paths) else LAPTOP
    return next((kind for kind, mark in _LAYOUTS.items() if any(map(mark.match, paths))), "")


def _hint(root: str, others: list[str]) -> str:
    if below := next((name for name in sorted(others) if "museum-classifier" in name), ""):
        return f"; did you mean --root {storage.join(root, below)}?"
    return ": give the folder whose folders are runs"
