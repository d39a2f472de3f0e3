"""Images whose bytes are in the collection's own files: parquet, archives. No request is made for them.

A source that holds such images gives each a key in the place of an address. Once it is known which are chosen, their
bytes are put behind one another in files beside `objects`, and the address says where: see artifacts/objects.py.
"""

import os
import tempfile
from collections.abc import Iterator

import duckdb
import pyarrow

from components.artifacts.objects import range_address
from components.query.settings import QueryError
from components.query.source import HoldingSource, Source
from components.shared.progress import Progress
from components.shared.storage import storage

PREFIX = "inside:"
# Bytes of a file; the last image may go beyond.
FILE_BYTES = 256 << 20


def place_images(database: duckdb.DuckDBPyConnection, source: Source, folder: str) -> str:
    """Creates `placed(image_uri, address)` of the images of `chosen` that `source` holds; their bytes go to `folder`.

    Returns:
        `folder`; empty where the source holds none.

    Raises:
        QueryError: one of them cannot be read.
    """
    database.execute("CREATE TABLE placed (image_uri VARCHAR, address VARCHAR)")
    if not isinstance(source, HoldingSource):
        return ""
    found = database.execute(
        "SELECT DISTINCT image_uri FROM chosen WHERE starts_with(image_uri, ?)", [PREFIX]
    ).fetchall()
    wanted = {key for (key,) in found}
    if not wanted:
        return ""
    progress = Progress(len(wanted), "images taken out")
    placed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="images-") as work:
        for number, bundle in enumerate(_bundles(source.read_inside(database, wanted))):
            uri = storage.join(folder, f"{number:05d}.images")
            path = os.path.join(work, "images")
            offset = 0
            with open(path, "wb") as file:
                for key, data in bundle:
                    file.write(data)
                    placed[key] = range_address(uri, offset, len(data))
                    offset += len(data)
                    progress.update()
            storage.upload(path, uri)
    if missing := sorted(wanted - set(placed)):
        raise QueryError(f"{len(missing):,} images are not where they were, such as {missing[0]}")
    table = pyarrow.table({"image_uri": list(placed), "address": list(placed.values())})
    database.register("found_inside", table)
    database.execute("INSERT INTO placed SELECT * FROM found_inside")
    database.unregister("found_inside")
    return folder


def _bundles(images: Iterator[tuple[str, bytes]]) -> Iterator[Iterator[tuple[str, bytes]]]:
    """`images` in parts of FILE_BYTES; each part is to be read to its end."""
    first = next(images, None)
    while first is not None:
        rest: list[tuple[str, bytes]] = []
        yield _part(first, images, rest)
        first = rest[0] if rest else None


def _part(
    first: tuple[str, bytes], images: Iterator[tuple[str, bytes]], rest: list[tuple[str, bytes]]
) -> Iterator[tuple[str, bytes]]:
    size = 0
    image: tuple[str, bytes] | None = first
    while image is not None:
        if size >= FILE_BYTES:
            rest.append(image)
            return
        size += len(image[1])
        yield image
        image = next(images, None)
