"""source=folder: a folder per class, local or in a bucket.

A file with the usual ending of an image is taken for one, and the fetch step reads it; of any other the content
decides. What is left out is said.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

import duckdb
import pyarrow

from components.query.given_splits import SPELLINGS, are_splits
from components.query.image_archives import is_archive, members, open_archive
from components.query.inside import PREFIX
from components.query.pictures import create_pictures
from components.query.settings import QueryError, Settings
from components.query.state import file_state
from components.shared.storage import storage

# Taken for images by their names: the fetch step reads them, and tells what each one is.
EXTENSIONS = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif"}
# Folders that cameras' cards, file servers and programs make, with thumbnails and deleted files in them.
SYSTEM_FOLDERS = {"@eadir", "@recycle", "#recycle", "#snapshot", "$recycle.bin", "__macosx", "lost+found"}
SYSTEM_FOLDERS |= {"system volume information", "@recently-snapshot", "network trash folder", "temporary items"}
_HEAD = 16
_READERS = 16
SCHEMA = pyarrow.schema(
    [(name, pyarrow.string()) for name in ("object_id", "folder", "parent", "title", "original_image_url")]
)


def open_source(settings: Settings) -> "FolderSource":
    """The folder at `settings.table`, or the one in an archive."""
    return ArchiveSource(settings) if is_archive(settings.table) else FolderSource(settings)


class FolderSource:
    """Images in folders. Columns: `folder` (the first below the root: the class), `parent` (the image's own)."""

    label = "folder"
    applies_where = False
    total = None
    pictures_are_complete = True

    def __init__(self, settings: Settings) -> None:
        local = storage.local_path(settings.table)
        self.is_local = local is not None
        self.root: str = settings.table.rstrip("/") if local is None else os.path.abspath(local)
        self.settings_table = settings.table
        self.learns_folder = settings.label.lower() in ("", "folder")
        self._sides = {} if settings.split_given.strip().lower() == "none" else settings.split_sides or SPELLINGS
        self.is_split = False
        self.notes: list[str] = []

    def state(self) -> str:
        """Of every file in the folder."""
        digest = hashlib.sha256()
        if self.is_local:
            told: Iterable[str] = (file_state(os.path.join(self.root, name)) for name in self._local_files())
        else:
            files = storage.list_files(self.root)
            told = (f"{file.uri} {file.size} {file.checksum and file.checksum.value} {file.version}" for file in files)
        for text in told:
            digest.update(text.encode("utf-8", "surrogateescape") + b"\n")
        return digest.hexdigest()

    def load(self, database: duckdb.DuckDBPyConnection) -> None:
        """Creates `raw`, a row per image. Raises QueryError if there is none, or all are of one class."""
        self._open(database)
        pictures = self._pictures()
        self._find_split(pictures)
        if not pictures:
            left_out = f"; {'; '.join(self.notes)}" if self.notes else ""
            raise QueryError(f"table={self.root}: there is no picture in this folder{left_out}")
        if self.learns_folder:
            self._check_classes(pictures)
        schema = SCHEMA.append(pyarrow.field("split", pyarrow.string())) if self.is_split else SCHEMA
        database.register("files", pyarrow.Table.from_pylist([self._row(path) for path in pictures], schema=schema))
        database.execute("CREATE TABLE raw AS SELECT * FROM files")

    def _open(self, database: duckdb.DuckDBPyConnection) -> None:
        if self.is_local and not os.path.isdir(self.root):
            kind = "is no folder" if os.path.exists(self.root) else "there is no such folder"
            raise QueryError(f"table={self.root}: {kind}; source=folder reads a folder with a folder per class")

    def load_pictures(self, database: duckdb.DuckDBPyConnection) -> None:
        """One image an object."""
        create_pictures(database, "objects", base=self.root)

    def describe_attributes(self, settings: Settings) -> None:
        """Described after listing."""

    def _pictures(self) -> list[PurePosixPath]:
        """The images below the root; `notes` says what else there is."""
        names = sorted(self._names())
        readable = [name for name in names if _is_utf8(name)]
        if len(readable) < len(names):
            first = next(name for name in names if not _is_utf8(name))
            self.notes.append(
                f"{len(names) - len(readable):,} files are left out, as their names are not in UTF-8, such as "
                f"{os.fsencode(first)!r}; rename them (convmv does)"
            )
        paths = [PurePosixPath(name) for name in readable]
        hidden = [path for path in paths if _is_hidden(path)]
        if hidden:
            first = "/".join(next(path for path in hidden).parts)
            self.notes.append(f"{len(hidden):,} hidden files and files of other programs are left out, such as {first}")
        paths = [path for path in paths if not _is_hidden(path)]
        unknown = [path for path in paths if path.suffix.lower() not in EXTENSIONS]
        with ThreadPoolExecutor(_READERS) as threads:
            others = {path for path, is_one in zip(unknown, threads.map(self._is_picture, unknown)) if not is_one}
        if others:
            counted = Counter(path.suffix.lower() or path.name for path in sorted(others))
            named = ", ".join(f"{number} {suffix}" for suffix, number in counted.most_common(5))
            self.notes.append(f"{len(others):,} files that are no pictures are left out: {named}")
        pictures = [path for path in paths if path not in others]
        self._tell_empty(pictures)
        return pictures

    def _names(self) -> Iterator[str]:
        return self._local_files() if self.is_local else self._remote_files()

    def _local_files(self) -> Iterator[str]:
        """Names below the root, those in linked folders among them; a link that leads back is not followed."""
        seen = set()
        for folder, folders, files in os.walk(self.root, followlinks=True):
            seen.add(os.path.realpath(folder))
            folders[:] = sorted(name for name in folders if os.path.realpath(os.path.join(folder, name)) not in seen)
            for name in files:
                if os.path.isfile(path := os.path.join(folder, name)):
                    yield os.path.relpath(path, self.root)

    def _remote_files(self) -> Iterator[str]:
        return (file.uri.removeprefix(self.root).lstrip("/") for file in storage.list_files(self.root))

    def _is_picture(self, path: PurePosixPath) -> bool:
        head = self._head(path)
        return (
            head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*"))
            or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
            or (head[:2] == b"BM" and head[6:10] == b"\0\0\0\0")
            or head[4:12] in (b"ftypavif", b"ftypavis")
        )

    def _head(self, path: PurePosixPath) -> bytes:
        return storage.read_bytes(storage.join(self.root, str(path)), 0, _HEAD)

    def _address(self, path: PurePosixPath) -> str:
        return storage.join(self.root, str(path))

    def _find_split(self, pictures: list[PurePosixPath]) -> None:
        """Where the folders are train, val and test, what is below them are the classes."""
        folders = {path.parts[0] for path in pictures if len(path.parts) > 1}
        self.is_split = are_splits(folders, self._sides)

    def _tell_empty(self, pictures: list[PurePosixPath]) -> None:
        if not self.is_local:
            return
        full = {path.parts[0] for path in pictures}
        with os.scandir(self.root) as entries:
            folders = sorted(entry.name for entry in entries if entry.is_dir())
        empty = [name for name in folders if name not in full and not _is_hidden(PurePosixPath(name))]
        if empty:
            shown = ", ".join(os.fsencode(name).decode("utf-8", "backslashreplace") for name in empty[:5])
            self.notes.append(f"{len(empty)} folders without a picture are no classes: {shown}")

    def _check_classes(self, pictures: list[PurePosixPath]) -> None:
        depth = 1 + self.is_split
        folders = {path.parts[depth - 1] for path in pictures if len(path.parts) > depth}
        if not folders:
            raise QueryError(
                f"table={self.root}: all {len(pictures):,} pictures lie in the folder itself; put them into a folder "
                "per class, or list them with their classes in a table (source=table)"
            )
        if len(folders) == 1 and not self.is_split and any(len(path.parts) > 2 for path in pictures):
            (folder,) = folders
            raise QueryError(
                f"table={self.root}: all classes would be one, as all folders are in the folder {folder}; take "
                f"table={storage.join(self.root, folder)}, or label=parent for the folder of each picture"
            )

    def _row(self, path: PurePosixPath) -> dict[str, str | None]:
        inner = path.parts[self.is_split :]
        in_folder = len(inner) > 1
        return {
            # The extension stays: a.jpg and a.png are two images.
            "object_id": str(path),
            "folder": inner[0] if in_folder else None,
            "parent": inner[-2] if in_folder else None,
            **({"split": path.parts[0]} if self.is_split and len(path.parts) > 1 else {}),
            "title": path.stem,
            "original_image_url": self._address(path),
        }


class ArchiveSource(FolderSource):
    """The same of the folders in a zip or tar archive: the images are taken out of it, and none is asked for."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.is_local = False
        self._path = ""
        self._heads: dict[str, bytes] = {}

    def state(self) -> str:
        """Of the archive."""
        return file_state(self.settings_table)

    def read_inside(self, database: duckdb.DuckDBPyConnection, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
        """In the order in which they are stored."""
        named = ((PREFIX + name.removeprefix("./"), data) for name, data in members(self._path))
        return ((key, data) for key, data in named if key in wanted)

    def _open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._path = open_archive(database, self.settings_table)
        self._heads = {name.removeprefix("./"): data[:_HEAD] for name, data in members(self._path)}

    def _names(self) -> Iterator[str]:
        return iter(self._heads)

    def _head(self, path: PurePosixPath) -> bytes:
        return self._heads[str(path)]

    def _address(self, path: PurePosixPath) -> str:
        return PREFIX + str(path)


def _is_hidden(path: PurePosixPath) -> bool:
    return any(part.startswith((".", "._")) or part.lower() in SYSTEM_FOLDERS for part in path.parts)


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
