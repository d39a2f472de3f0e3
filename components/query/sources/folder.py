"""source=folder: a folder per class, local or in a bucket."""

import hashlib
import os
from collections import Counter
from pathlib import PurePosixPath

import duckdb
import pyarrow

from components.query.pictures import create_pictures
from components.query.settings import QueryError, Settings
from components.query.state import file_state
from components.shared.storage import storage

EXTENSIONS = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif"}
SCHEMA = pyarrow.schema(
    [(name, pyarrow.string()) for name in ("object_id", "folder", "parent", "title", "original_image_url")]
)


def open_source(settings: Settings) -> "FolderSource":
    """The folder at `settings.table`."""
    return FolderSource(settings.table)


class FolderSource:
    """Pictures in folders. Columns: `folder` (the first below the root: the class), `parent` (the picture's own)."""

    label = "folder"
    applies_where = False
    total = None
    pictures_are_complete = True

    def __init__(self, root: str) -> None:
        local = storage.local_path(root)
        self.root = os.path.abspath(local) if local is not None else root.rstrip("/")

    def state(self) -> str:
        """Of every file in the folder."""
        digest = hashlib.sha256()
        for file in storage.list_files(self.root):
            told = f"{file.uri} {file.size} {file.checksum and file.checksum.value} {file.version}"
            if storage.local_path(file.uri) is not None:
                told = file_state(file.uri)
            digest.update(told.encode("utf-8", "surrogateescape") + b"\n")
        return digest.hexdigest()

    def load(self, database: duckdb.DuckDBPyConnection) -> None:
        """Creates `raw`, a row a picture. Raises QueryError if there is none."""
        files = [PurePosixPath(file.uri.removeprefix(self.root).lstrip("/")) for file in storage.list_files(self.root)]
        shown = [path for path in files if not any(part.startswith(".") for part in path.parts)]
        pictures = [path for path in shown if path.suffix.lower() in EXTENSIONS]
        if not pictures:
            raise QueryError(f"table={self.root}: there is no picture in this folder ({', '.join(sorted(EXTENSIONS))})")
        others = Counter(path.suffix.lower() or path.name for path in shown if path.suffix.lower() not in EXTENSIONS)
        if others:
            named = ", ".join(f"{number} {suffix}" for suffix, number in others.most_common(5))
            print(f"{others.total()} files that are no pictures are left out: {named}")
        database.register("files", pyarrow.Table.from_pylist([self._row(path) for path in pictures], schema=SCHEMA))
        database.execute("CREATE TABLE raw AS SELECT * FROM files")

    def load_pictures(self, database: duckdb.DuckDBPyConnection) -> None:
        """One picture an object."""
        create_pictures(database, "objects", base=self.root)

    def describe_attributes(self, settings: Settings) -> None:
        """Described after listing."""

    def _row(self, path: PurePosixPath) -> dict[str, str | None]:
        in_folder = len(path.parts) > 1
        return {
            # The extension stays: a.jpg and a.png are two pictures.
            "object_id": str(path),
            "folder": path.parts[0] if in_folder else None,
            "parent": path.parts[-2] if in_folder else None,
            "title": path.stem,
            "original_image_url": storage.join(self.root, str(path)),
        }
