"""source=webdataset: tar files in which an image and what is known of it share a name: `1.jpg`, `1.json`, `1.cls`.

https://github.com/webdataset/webdataset
"""

import json
import os
from collections.abc import Iterator
from pathlib import PurePosixPath

import duckdb

from components.query.database import folder_of
from components.query.image_archives import members, open_archive
from components.query.inside import PREFIX
from components.query.settings import QueryError, Settings
from components.query.sources.folder import EXTENSIONS
from components.query.sources.table import TableSource
from components.query.table_file import TableFile, expanded, open_table


def open_source(settings: Settings) -> "WebDatasetSource":
    """The tar files that `settings.table` names, or is a pattern of."""
    return WebDatasetSource(settings)


class WebDatasetSource(TableSource):
    """Columns: those of the objects in `.json`, and a column per other ending that holds a text (`cls`, `txt`)."""

    label = "cls"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._paths: list[str] = []

    def read_inside(self, database: duckdb.DuckDBPyConnection, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
        """Tar by tar, in the order in which they are stored."""
        for number, path in enumerate(self._paths):
            for name, data in members(path):
                if (key := f"{PREFIX}{number}/{name}") in wanted:
                    yield key, data

    def _open_objects(self, database: duckdb.DuckDBPyConnection) -> TableFile:
        self._paths = [open_archive(database, uri) for uri in expanded(self.settings.table)]
        path = os.path.join(folder_of(database), "samples.jsonl")
        images = 0
        with open(path, "w", encoding="utf-8") as file:
            for record in self._records():
                images += "original_image_url" in record
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        if not images:
            raise QueryError(
                f"table={self.settings.table}: there is no image in it; source=folder reads other archives"
            )
        return open_table(database, path)

    def _records(self) -> Iterator[dict]:
        """A record per sample: its files stand behind one another."""
        for number, path in enumerate(self._paths):
            key = ""
            record: dict = {}
            for name, data in members(path):
                folder, _, base = name.rpartition("/")
                stem, _, ending = base.partition(".")
                if not stem or not ending:
                    continue
                own = f"{folder}/{stem}" if folder else stem
                if own != key:
                    if record:
                        yield record
                    key, record = own, {"object_id": own}
                record |= _columns(f"{PREFIX}{number}/{name}", ending.lower(), data)
            if record:
                yield record


def _columns(key: str, ending: str, data: bytes) -> dict:
    if PurePosixPath(f"x.{ending}").suffix in EXTENSIONS:
        return {"original_image_url": key}
    try:
        text = data.decode()
        if ending == "json":
            found = json.loads(text)
            return found if isinstance(found, dict) else {}
    except ValueError:
        return {}
    return {ending: text.strip()}
