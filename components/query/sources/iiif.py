"""source=iiif: a IIIF Presentation manifest or collection (2 or 3), at a path or a URI, with all that it leads to.

A manifest is an object: its label, its metadata (a column each), its rights, and an image per canvas. The images are
asked for in the size that is needed, where there is an image service.

https://iiif.io/api/presentation/3.0, https://iiif.io/api/presentation/2.1
"""

import json
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import duckdb

from components.query.database import folder_of
from components.query.settings import QueryError, Settings
from components.query.sources.table import TableSource
from components.query.state import today
from components.query.table_file import TableFile, open_table
from components.query.web import Api
from components.shared.progress import Progress
from components.shared.storage import storage
from components.shared.templates import larger_side

REQUESTS_PER_SECOND = 5.0
_COLLECTIONS, _MANIFESTS = ("Collection", "sc:Collection"), ("Manifest", "sc:Manifest")


def open_source(settings: Settings) -> "IiifSource":
    """The manifest or collection at `settings.table`."""
    return IiifSource(settings)


class IiifSource(TableSource):
    """Manifests. Columns: collection (the innermost that lists it), title, and whatever their metadata say."""

    label = "collection"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._apis: dict[str, Api] = {}

    def state(self) -> str:
        """The day: what a collection leads to cannot be told without going there."""
        return f"{self.settings.table} {today()}"

    def _open_objects(self, database: duckdb.DuckDBPyConnection) -> TableFile:
        path = os.path.join(folder_of(database), "manifests.jsonl")
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in self._records())
        if not os.path.getsize(path):
            raise QueryError(f"table={self.settings.table}: the collection lists no manifest")
        return open_table(database, path)

    def _records(self) -> Iterator[dict[str, Any]]:
        progress = Progress(1, "manifests and collections")
        waiting, seen = [(self.settings.table, "")], {self.settings.table}
        while waiting:
            uri, collection = waiting.pop(0)
            document = self._read(uri)
            progress.update()
            if _kind(document) in _MANIFESTS:
                yield _record(document, collection, larger_side(self.settings.image_size))
                continue
            name = _text(document.get("label")) or uri
            for inner in _listed(document):
                if inner not in seen:
                    seen.add(inner)
                    waiting.append((inner, name))
            progress = Progress(len(seen), "manifests and collections")

    def _read(self, uri: str) -> dict[str, Any]:
        parts = urlsplit(uri)
        document: Any
        if parts.scheme in ("http", "https"):
            host = f"{parts.scheme}://{parts.netloc}"
            api = self._apis.setdefault(host, Api(host, host, REQUESTS_PER_SECOND, self.settings.contact))
            document = api.get(uri[len(host) :])
            if document is None:
                raise QueryError(f"there is no manifest {uri}: its host answers 404")
        else:
            try:
                document = json.loads(storage.read_bytes(uri))
            except ValueError as error:
                raise QueryError(f"{uri} is no IIIF manifest: it is not JSON ({error})") from error
        if not isinstance(document, dict) or _kind(document) not in (*_COLLECTIONS, *_MANIFESTS):
            raise QueryError(f"{uri} is no IIIF Presentation manifest or collection (its type says which)")
        return document


def _kind(document: dict[str, Any]) -> str:
    return str(document.get("type") or document.get("@type") or "")


def _id(item: Any) -> str:
    return str(item.get("id") or item.get("@id") or "") if isinstance(item, dict) else str(item or "")


def _listed(collection: dict[str, Any]) -> list[str]:
    """Addresses of the manifests and collections in a collection, and of its next page."""
    names = ("items", "members", "manifests", "collections")
    found = [_id(item) for name in names for item in collection.get(name) or ()]
    following = [_id(collection[name]) for name in ("first", "next") if collection.get(name)]
    return [address for address in dict.fromkeys([*found, *following]) if address]


def _record(manifest: dict[str, Any], collection: str, size: int) -> dict[str, Any]:
    required = manifest.get("requiredStatement") or {}
    page = manifest.get("homepage") or manifest.get("related") or ()
    record = {_text(pair.get("label")): _text(pair.get("value")) for pair in manifest.get("metadata") or ()}
    return {name: value for name, value in record.items() if name} | {
        "object_id": _id(manifest),
        "collection": collection,
        "title": _text(manifest.get("label")),
        "rights_and_reproduction": _text(manifest.get("rights") or manifest.get("license")),
        "credit_line": _text(required.get("value") or manifest.get("attribution")),
        "link_resource": _id(page[0]) if isinstance(page, list) and page else _id(page) if page else _id(manifest),
        "original_image_url": list(dict.fromkeys(_images(manifest, size))),
    }


def _images(manifest: dict[str, Any], size: int) -> Iterator[str]:
    """An address per painted image, in the order of the canvases."""
    for canvas in manifest.get("items") or ():  # 3
        for page in canvas.get("items") or ():
            for annotation in page.get("items") or ():
                yield from _address(annotation.get("body"), size)
    for sequence in manifest.get("sequences") or ():  # 2
        for canvas in sequence.get("canvases") or ():
            for annotation in canvas.get("images") or ():
                yield from _address(annotation.get("resource"), size)


def _address(body: Any, size: int) -> Iterator[str]:
    if isinstance(body, list):
        body = body[0] if body else None
    if isinstance(body, dict) and _kind(body) in ("Choice", "oa:Choice"):  # the first, or the default, is meant
        body = body.get("default") or (body.get("items") or [None])[0]
    if not isinstance(body, dict) or _kind(body) not in ("Image", "dctypes:Image"):
        return
    services = body.get("service") or ()
    service = services[0] if isinstance(services, list) and services else services
    if isinstance(service, dict) and _id(service):
        yield f"{_id(service).rstrip('/')}/full/!{size},{size}/0/default.jpg"
    elif _id(body):
        yield _id(body)


def _text(value: Any) -> str:
    """A label or value in English where there is one, else in the first language; several are parted by a semicolon."""
    if isinstance(value, dict):
        if "@value" in value:
            return str(value["@value"]).strip()
        return _text(value.get("en") or next(iter(value.values()), ""))
    if isinstance(value, list):
        english = [item for item in value if isinstance(item, dict) and item.get("@language") == "en"]
        return "; ".join(filter(None, map(_text, english or value)))
    return str(value or "").strip()
