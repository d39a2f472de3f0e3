"""source=met: The Met's open-access CSV, and its collection API for the addresses of the pictures. No credentials.

https://metmuseum.github.io
"""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import quote

import duckdb

from components.query.conditions import condition_columns
from components.query.settings import QueryError, Settings
from components.query.sources.table import create_view, file_columns
from components.query.web import Api
from components.shared.progress import Progress

CSV = "https://media.githubusercontent.com/media/metmuseum/openaccess/master/MetObjects.csv"
API_VARIABLE = "MET_API"
API = "https://collectionapi.metmuseum.org"
# What The Met asks for: "Please limit request rate to 80 requests per second."
REQUESTS_PER_SECOND = 80
CONNECTIONS = 16
# Objects asked for between two looks at which classes have enough.
ROUND = 2000


def open_source(settings: Settings) -> "MetSource":
    """The Met's collection, or one of its CSV files elsewhere at `settings.table`."""
    if settings.images:
        raise QueryError("source=met asks The Met's API for the pictures; for a table of your own take source=table")
    return MetSource(settings)


class MetSource:
    """The Met: objects from its CSV (column names as on BigQuery: object_id, culture), pictures from its API."""

    label = "culture"
    total = None
    pictures_are_complete = False

    def __init__(self, settings: Settings) -> None:
        self.settings = replace(settings, table=settings.table or CSV)
        self.api = Api(os.environ.get(API_VARIABLE, API), "The Met's API", REQUESTS_PER_SECOND, CONNECTIONS)

    def load(self, database: duckdb.DuckDBPyConnection) -> None:
        """Creates `raw` from the CSV."""
        typed = condition_columns(self.settings.where, "duckdb")
        renamed = {column_name(theirs): theirs for theirs in file_columns(database, self.settings.table)}
        if "is_public_domain" not in renamed:
            raise QueryError(f"{self.settings.table} has no column Is Public Domain: is this The Met's MetObjects.csv?")
        create_view(database, "raw", self.settings.table, renamed, typed)

    def load_pictures(self, database: duckdb.DuckDBPyConnection) -> None:
        """Asks the API about objects in the public domain (it has no pictures of others) until each class is full.

        With `max_images_per_class` that is far fewer requests than objects: classes too small to be kept are not asked
        about, and of each other class as many as it needs, in the order in which the cap would take them.
        """
        database.execute("CREATE TABLE pictures (object_id VARCHAR, image_uri VARCHAR, position BIGINT)")
        waiting = self._waiting(database)
        progress = Progress(self._most_requests(waiting), "objects asked about")
        found = dict.fromkeys(waiting, 0)
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            while asked := self._next_round(waiting, found):
                addresses = threads.map(lambda item: self._address(item[1], progress), asked)
                rows = [(label, key, address) for (label, key), address in zip(asked, addresses) if address]
                for label, _, _ in rows:
                    found[label] += 1
                if rows:
                    database.executemany("INSERT INTO pictures VALUES (?, ?, 0)", [row[1:] for row in rows])

    def describe_attributes(self, settings: Settings) -> None:
        """Described from the CSV: objects are counted, as only the API knows who has pictures."""

    def _waiting(self, database: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
        """Class -> ids still to ask about, the next one last; of the largest `max_classes`."""
        rows = database.execute(
            """
            SELECT class, list(object_id ORDER BY md5(? || ':cap:' || object_id) DESC) AS ids
            FROM labelled WHERE object_id IN
                (SELECT trim(object_id) FROM objects WHERE lower(is_public_domain) IN ('true', '1'))
            GROUP BY class HAVING count(*) >= ? ORDER BY count(*) DESC, class
            """,
            [str(self.settings.seed), self.settings.min_images_per_class],
        ).fetchall()
        return dict(rows[: self.settings.max_classes or None])

    def _most_requests(self, waiting: dict[str, list[str]]) -> int:
        cap = self.settings.max_images_per_class
        return sum(min(len(ids), cap) if cap else len(ids) for ids in waiting.values())

    def _next_round(self, waiting: dict[str, list[str]], found: dict[str, int]) -> list[tuple[str, str]]:
        cap = self.settings.max_images_per_class
        asked: list[tuple[str, str]] = []
        for label, ids in waiting.items():
            missing = cap - found[label] if cap else len(ids)
            number = min(missing, len(ids), ROUND - len(asked))
            asked += [(label, ids.pop()) for _ in range(number)]
        return asked

    def _address(self, object_id: str, progress: Progress) -> str:
        """URL of the object's main picture; empty if it has none or the API does not know it."""
        answer = self.api.get(f"/public/collection/v1/objects/{quote(object_id, safe='')}") or {}
        progress.update()
        return answer.get("primaryImage") or ""


def column_name(heading: str) -> str:
    """`Object ID` as it is called on BigQuery: `object_id`."""
    return re.sub(r"[^a-z0-9]+", "_", heading.strip("\ufeff ").lower()).strip("_")
