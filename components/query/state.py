"""The state of a source: a text that changes when what the source holds has changed.

KFP looks a step up in its cache by its parameters. A table that was corrected under its old name would give the old
result, so the state travels as a parameter: the probe step, which is never cached, asks for it in every run. The same
holds for the pipeline root: a result in another store may not be readable with this run's credentials.
"""

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from components.query.collections import resolve
from components.query.settings import Settings
from components.query.source import open_source
from components.shared.errors import PipelineError
from components.shared.storage import storage


def source_state(parameters: Mapping[str, Any], root: str = "", gone: Sequence[str] = ()) -> str:
    """A hash of `root` and of what the source, `label_map` and `label_corrections` tell about their content.

    It is equal as long as these are.

    Where it cannot be told, it is one that never was: the query step then runs, and says what is wrong.

    Args:
        parameters: Those of `Settings` that say where the source is.
        root: Where the run keeps its artifacts.
        gone: What the cache remembers and the root has lost (components.artifacts.ledger).
    """
    try:
        settings = resolve(Settings(**{**parameters, "rights": "any"}))
        parts = [root, settings.source, open_source(settings).state(), file_state(settings.label_map), *gone]
        parts += [file_state(settings.label_corrections)] if settings.label_corrections else []
    except PipelineError as error:
        return f"unknown at {time.time():.0f}: {error}"
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def pipeline_root(uri: str) -> str:
    """The root of the run that has the artifact `uri`: KFP puts it at ROOT/PIPELINE/RUN/TASK/SALT/NAME."""
    return uri.rsplit("/", 5)[0] if storage.local_path(uri) is None else ""


def today() -> str:
    """The state of what answers differently at any time: such an answer is trusted until midnight (UTC)."""
    return datetime.now(UTC).date().isoformat()


def file_state(uri: str) -> str:
    """Checksum and version of the file `uri` as its store tells them; empty for no file.

    A local file is told by its size and time; one whose server tells neither is read.

    Raises:
        StorageError: it cannot be read.
    """
    if not uri:
        return ""
    path = storage.local_path(uri)
    if path is not None:
        with storage.open_read(uri) as file:
            told = os.fstat(file.fileno())
        return f"{uri} {told.st_size} {told.st_mtime_ns}"
    try:
        info = storage.stat(uri)
        if info.checksum or info.version:
            return f"{uri} {info.size} {info.checksum and info.checksum.value} {info.version}"
    except storage.TransientStorageError:
        raise  # it was asked long enough
    except storage.StorageError:
        pass  # such as a server that refuses HEAD requests
    with storage.open_read(uri) as file:
        return f"{uri} {hashlib.file_digest(file, 'sha256').hexdigest()}"
