"""Large files from the web: with progress, and only once."""

import contextlib
import hashlib
import os
from pathlib import Path
from urllib.parse import urlsplit

from components.shared.progress import Progress
from components.shared.storage import storage

MEGABYTE = 1_000_000
# Smaller files are here before anyone asks what takes so long.
LEAST_SHOWN = 10 * MEGABYTE


def download(uri: str, path: str) -> None:
    """Copies the file `uri` to `path`, with progress lines if it is large. Raises StorageError."""
    progress: Progress | None = None

    def report(done: int, size: int) -> None:
        nonlocal progress
        if size >= LEAST_SHOWN:
            progress = progress or Progress(size // MEGABYTE, "MB of the table")
            progress.update(done // MEGABYTE - progress.done)

    storage.download(uri, path, report)


def kept(uri: str) -> str:
    """Path of a copy of the file `uri` in the user's cache folder, downloaded unless the server's version is there.

    Returns:
        `uri` itself if it is local, if its server tells no version, or if there is no such folder to write to.

    Raises:
        StorageError: the download fails.
    """
    if storage.local_path(uri) is not None:
        return uri
    with contextlib.suppress(storage.StorageError):  # the download itself says what is wrong
        if version := storage.stat(uri).version:
            return _copy(uri, version)
    return uri


def _copy(uri: str, version: str) -> str:
    with contextlib.suppress(OSError, RuntimeError):  # no home, or a read-only one
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "museum-classifier"
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            return uri
        mine = hashlib.sha256(uri.encode()).hexdigest()[:16]
        name = f"{mine}-{hashlib.sha256(version.encode()).hexdigest()[:16]}-{Path(urlsplit(uri).path).name[-100:]}"
        if not (folder / name).exists():
            download(uri, str(folder / name))
            for old in folder.glob(f"{mine}-*"):
                if old.name != name:
                    old.unlink(missing_ok=True)
        return str(folder / name)
    return uri
