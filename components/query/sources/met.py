"""source=met: The Met's open-access CSV, and its collection API for the addresses of the images. No credentials.

https://metmuseum.github.io
"""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import quote

import duckdb

from components.query.answers import Answers
from components.query.database import scalar
from components.query.downloads import kept
from components.query.settings import QueryError, Settings
from components.query.state import file_state, today
from components.query.table_file import load_table, open_table
from components.query.web import Api
from components.shared.errors import PipelineError, TransientError
from components.shared.progress import Progress

CSV = "https://media.githubusercontent.com/media/metmuseum/openaccess/master/MetObjects.csv"
API_VARIABLE = "MET_API"
API = "https://collectionapi.metmuseum.org"
# What The Met asks for: "Please limit request rate to 80 requests per second."
REQUESTS_PER_SECOND = 80
CONNECTIONS = 16
# The image_size that primaryImageSmall (web-large) is taken to serve: the API does not say how large it is.
SMALL_SERVES = 256
# Objects asked for between two looks at which classes have enough; then their answers are kept.
ROUND = 1000
# So many objects one after the other without an answer are no matter of the objects.
MOST_FAILURES_IN_A_ROW = 30


def open_source(settings: Settings) -> "MetSource":
    """The Met's collection, or one of its CSV files elsewhere at `settings.table`."""
    return MetSource(settings)


class MetSource:
    """The Met: objects from its CSV (column names as on BigQuery: object_id, culture), images from its API."""

    label = "culture"
    applies_where = False
    total = None
    pictures_are_complete = False
    kept_at = ""
    files: tuple[str, ...] = ()
    not_asked = 0

    def __init__(self, settings: Settings) -> None:
        self.settings = replace(settings, table=settings.table or CSV)
        base = os.environ.get(API_VARIABLE, API)
        self.api = Api(base, "The Met's API", REQUESTS_PER_SECOND, settings.contact, CONNECTIONS)
        self.takes_small = settings.image_size <= SMALL_SERVES
        self.failed: dict[str, str] = {}
        self._failures_in_a_row = 0

    def state(self) -> str:
        """Of the CSV, and the day: what the API answers does not tell its state."""
        return f"{file_state(self.settings.table)} {today()}"

    def load(self, database: duckdb.DuckDBPyConnection) -> None:
        """Creates `raw` from the CSV."""
        table = open_table(database, kept(self.settings.table))
        columns = {column_name(theirs): theirs for theirs in table.names}
        if "is_public_domain" not in columns:
            raise QueryError(f"{self.settings.table} has no column Is Public Domain: is this The Met's MetObjects.csv?")
        self.files = table.paths
        load_table(database, "raw", table, [(theirs, ours) for ours, theirs in columns.items()])

    def load_pictures(self, database: duckdb.DuckDBPyConnection) -> None:
        """Asks the API about objects in the public domain (it has no images of others) until each class is full.

        With `max_images_per_class` that is far fewer requests than objects: classes too small to be kept are not asked
        about, and of each other class as many as it needs, in the order in which the cap would take them.

        Raises:
            TransientError: more than `max_failed_fraction` of the objects got no answer, or many in a row.
        """
        database.execute("CREATE TABLE pictures (object_id VARCHAR, image_uri VARCHAR, position BIGINT)")
        waiting = self._waiting(database)
        # What was kept for larger images does not serve smaller ones, and the other way round.
        answers = Answers(f"{self.kept_at}-small" if self.kept_at and self.takes_small else self.kept_at)
        most = self._most_requests(waiting)
        progress = Progress(most, "objects asked about")
        found = dict.fromkeys(waiting, 0)
        asked = 0
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            while batch := self._next_round(waiting, found):
                self._ask_all([key for _, key in batch], answers, threads, progress)
                self._check_failures(most, len(answers.known))
                asked += len(batch)
                for label, key in batch:
                    found[label] += bool(answers.known.get(key))
                _insert(database, {key: answers.known.get(key, []) for _, key in batch})
        self.not_asked = scalar(database, "SELECT count(*) FROM labelled") - asked

    def describe_attributes(self, settings: Settings) -> None:
        """Described from the CSV: objects are counted, as only the API knows who has images."""

    def _waiting(self, database: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
        """Class -> ids still to ask about, the next one last; of the largest `max_classes`."""
        rows = database.execute(
            """
            SELECT class, list(object_id ORDER BY md5(? || ':cap:' || object_id) DESC) AS ids
            FROM labelled WHERE object_id IN
                (SELECT clean(object_id) FROM objects WHERE lower(is_public_domain) IN ('true', '1'))
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

    def _ask_all(self, keys: list[str], answers: Answers, threads: ThreadPoolExecutor, progress: Progress) -> None:
        """Adds the answers about `keys`; also those that came before an interruption."""
        got: dict[str, list[str]] = {}

        def ask(key: str) -> None:
            addresses = self._addresses(key)
            progress.update()
            if addresses is not None:
                got[key] = addresses

        progress.update(sum(key in answers.known for key in keys))
        try:
            list(threads.map(ask, [key for key in keys if key not in answers.known]))
        finally:
            answers.keep(dict(got))

    def _addresses(self, object_id: str) -> list[str] | None:
        """URLs of the object's images, the main one first; None, and an entry in `failed`, without an answer."""
        if self._failures_in_a_row >= MOST_FAILURES_IN_A_ROW:
            return None
        try:
            answer = self.api.get(f"/public/collection/v1/objects/{quote(object_id, safe='')}") or {}
        except PipelineError as error:
            self.failed[object_id] = str(error)
            self._failures_in_a_row += 1
            return None
        self._failures_in_a_row = 0
        further = answer.get("additionalImages")
        main, small = answer.get("primaryImage"), answer.get("primaryImageSmall")
        addresses = [main, *(further if isinstance(further, list) else ())]
        if self.takes_small and small and isinstance(small, str):
            addresses[0] = small  # of the further ones the API names no small form
        return list(dict.fromkeys(address for address in addresses if address and isinstance(address, str)))

    def _check_failures(self, most: int, answered: int) -> None:
        is_down = self._failures_in_a_row >= MOST_FAILURES_IN_A_ROW
        share = self.settings.max_failed_fraction
        if not is_down and len(self.failed) <= share * most:
            return
        (*_, last) = self.failed.values()
        again = f"the {answered:,} answers are kept, so start the step again later"
        kept = again if self.kept_at else "try again later"
        if is_down:
            number = MOST_FAILURES_IN_A_ROW
            raise TransientError(f"no answer about {number} objects one after the other ({last}); {kept}")
        raise TransientError(
            f"no answer about {len(self.failed):,} of {most:,} objects, more than max_failed_fraction={share:g} allows "
            f"({last}); {kept}, or raise that"
        )


def _insert(database: duckdb.DuckDBPyConnection, addresses: dict[str, list[str]]) -> None:
    rows = [(key, address, place) for key, found in addresses.items() for place, address in enumerate(found)]
    if rows:
        database.executemany("INSERT INTO pictures VALUES (?, ?, ?)", rows)


def column_name(heading: str) -> str:
    """`Object ID` as it is called on BigQuery: `object_id`."""
    return re.sub(r"[^a-z0-9]+", "_", heading.strip("\ufeff ").lower()).strip("_")
