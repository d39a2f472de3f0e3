"""What APIs of collections have in common: pages of records become a table, which is then read like any other."""

import json
import os
from collections.abc import Iterator

import duckdb

from components.query.answers import Pages
from components.query.collections import Collection, Resolved
from components.query.database import folder_of
from components.query.settings import QueryError
from components.query.sources.table import TableSource
from components.query.state import today
from components.query.table_file import TableFile, open_table
from components.query.web import Api
from components.shared.progress import Progress

# Where a collection's file does not say what its API bears.
REQUESTS_PER_SECOND = 2.0
_NOTHING = "the API answers without a record; see whether the collection's file is still right"


class RecordsSource(TableSource):
    """A collection whose objects come page by page. What was answered is kept, and not asked again.

    A kind of interface says with `page` what is asked, and what an answer holds.
    """

    kept_at = ""

    def __init__(self, settings: Resolved) -> None:
        super().__init__(settings)
        if settings.collection is None:
            raise QueryError(f"source={settings.source} is a kind of interface; name a collection, or a file of yours")
        self.collection: Collection = settings.collection
        self.key = os.environ.get(self.collection.key, "") if self.collection.key else ""
        if self.collection.key and not self.key:
            raise QueryError(
                f"{self.collection.title} needs an API key in {self.collection.key}; {self.collection.key_at} gives one"
            )
        rate = self.collection.rate or REQUESTS_PER_SECOND
        self.api = Api(settings.table, self.collection.title, rate, settings.contact)

    def state(self) -> str:
        """The day: an API does not tell whether its answers have changed."""
        return f"{self.collection} {today()}"

    def page(self, position: object) -> tuple[list[dict], object]:
        """The records at `position` (None: the first page), and the position of the next page; None after the last."""
        raise NotImplementedError

    def _open_objects(self, database: duckdb.DuckDBPyConnection) -> TableFile:
        path = os.path.join(folder_of(database), "records.jsonl")
        count = 0
        with open(path, "w", encoding="utf-8") as file:
            for records in self._pages():
                count += len(records)
                file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        if not count:
            raise QueryError(f"{self.collection.title}: {_NOTHING}")
        return open_table(database, path)

    def _pages(self) -> Iterator[list[dict]]:
        pages, position, number, is_last = Pages(self.kept_at), None, 0, False
        progress = Progress(max(self.collection.works, 1), "records")
        for records, position in pages.kept():
            number, is_last = number + 1, position is None
            yield records
        seen = set()
        while not is_last:
            records, following = self.page(position)
            if json.dumps(following) in seen:
                raise QueryError(f"{self.collection.title} leads from page to page in a circle, at {following}")
            seen.add(json.dumps(following))
            pages.keep(number, records, following)
            progress.update(len(records))
            yield records
            position, number, is_last = following, number + 1, following is None
