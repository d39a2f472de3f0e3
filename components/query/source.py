"""The interface that every source fills, and the choice of one by name."""

import importlib
from typing import TYPE_CHECKING, Protocol

import duckdb

from components.query.settings import Settings

if TYPE_CHECKING:
    from components.query.attributes import Attributes


class Source(Protocol):
    """A collection that can be loaded into DuckDB.

    Attributes:
        label: The column to learn when the user names none.
        total: Objects before `where`, if the source has applied that itself; None: it is still to be applied to `raw`.
        pictures_are_complete: `load_pictures` gives the pictures of all objects, not just of those with a label.
    """

    label: str
    total: int | None
    pictures_are_complete: bool

    def load(self, database: duckdb.DuckDBPyConnection) -> None:
        """Creates `raw`: a row an object, with `object_id` and whatever columns the source has."""

    def load_pictures(self, database: duckdb.DuckDBPyConnection) -> None:
        """Creates `pictures(object_id, image_uri, position)` for at least the objects in `labelled`."""

    def describe_attributes(self, settings: Settings) -> "Attributes | None":
        """What could be learned, where the source can say so without being loaded; else None."""


def open_source(settings: Settings) -> Source:
    """The source that `settings.source` names; its module, and with it its SDK, is imported only now.

    Raises:
        QueryError: a parameter that this source needs is missing.
    """
    module = importlib.import_module(f"components.query.sources.{settings.source}")
    return module.open_source(settings)
