"""The interface that every source fills, and the choice of one by name."""

import importlib
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import duckdb

from components.query.attribute_counts import Attributes
from components.query.settings import QueryError, Settings


class Source(Protocol):
    """A collection that can be loaded into DuckDB.

    Attributes:
        label: The column to learn when the user names none.
        applies_where: `load` gives only objects that match `where`; else it is still to be applied to `raw`.
        total: Objects before `where`, where the source knows that without counting `raw`.
        pictures_are_complete: `load_pictures` gives the images of all objects, not just of those with a label.

    A source whose relations read local files after `load` has `files`, their paths; one that left something out says so
    in `notes`, a sentence each.
    """

    label: str
    applies_where: bool
    total: int | None
    pictures_are_complete: bool

    def state(self) -> str:
        """A text that changes when the source does, had without loading it. See state.py."""

    def load(self, database: duckdb.DuckDBPyConnection) -> None:
        """Creates `raw`: a row per object, with `object_id` and whatever columns the source has."""

    def load_pictures(self, database: duckdb.DuckDBPyConnection) -> None:
        """Creates `pictures(object_id, image_uri, position)` for at least the objects in `labelled`."""

    def describe_attributes(self, settings: Settings) -> Attributes | None:
        """What could be learned, where the source can say so without being loaded; else None."""


@runtime_checkable
class KeepingSource(Source, Protocol):
    """A source that keeps what was answered at the URI `kept_at`, set before `load`, for a next try."""

    kept_at: str


@runtime_checkable
class HoldingSource(Source, Protocol):
    """A source that holds the bytes of images: `pictures` has keys for them in the place of addresses."""

    def read_inside(self, database: duckdb.DuckDBPyConnection, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
        """(key, bytes) of the images with the keys `wanted`. Raises QueryError: one cannot be read."""


@runtime_checkable
class AskingSource(Source, Protocol):
    """A source that asks about each object.

    Attributes:
        not_asked: After it, the number of objects that were not asked about.
        failed: After it, object id -> reason.
    """

    not_asked: int
    failed: dict[str, str]


def open_source(settings: Settings) -> Source:
    """The source that `settings.source` names; its module, and with it its SDK, is imported only now.

    Raises:
        QueryError: a parameter that this source needs is missing, or its SDK is not installed.
    """
    try:
        module = importlib.import_module(f"components.query.sources.{settings.source}")
    except ModuleNotFoundError as error:
        if (error.name or "components").startswith("components"):
            raise
        extra = settings.source if settings.source == "bigquery" else "query"
        raise QueryError(
            f"source={settings.source} needs the Python package {error.name}, which is not installed: "
            f"pip install --editable '.[{extra}]'"
        ) from error
    return module.open_source(settings)
