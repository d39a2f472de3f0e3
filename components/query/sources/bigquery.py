"""source=bigquery: The Met's public tables, or any of that shape, through google-cloud-bigquery."""

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import duckdb
import grpc
import pyarrow
import requests
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError, TransportError
from google.cloud import bigquery

from components.query.attribute_counts import NOT_ATTRIBUTES, TOP_VALUES, Attributes, arrange
from components.query.columns import ADDRESS_COLUMNS
from components.query.conditions import check_condition, condition_columns
from components.query.labels import resolve_column
from components.query.missing import PATTERN
from components.query.pictures import create_pictures
from components.query.settings import QueryError, Settings
from components.query.sources import bigquery_sql as sql
from components.query.sources.table import check_renamed
from components.shared.errors import PipelineError, TransientError
from components.shared.parameters import did_you_mean
from components.shared.progress import Progress
from components.shared.storage import storage
from components.shared.templates import is_template, sized

TABLE, IMAGES = "bigquery-public-data.the_met.objects", "bigquery-public-data.the_met.images"
BUCKET = "gs://gcs-public-data--met"
# The client speaks to this address instead of Google's, without credentials, where it is set.
EMULATOR_VARIABLE = "BIGQUERY_EMULATOR_HOST"
# ... and for the Storage API, which is gRPC: host:port.
STORAGE_EMULATOR_VARIABLE = "BIGQUERY_STORAGE_EMULATOR_HOST"
SCALARS = set("STRING INTEGER INT64 FLOAT FLOAT64 NUMERIC BIGNUMERIC BOOLEAN BOOL DATE TIMESTAMP DATETIME TIME".split())
PAGE_ROWS = 20_000
LISTERS = 16
QUEUED_BATCHES = 16
# What objects.parquet carries beside label, group and slices.
CARRIED = (
    "object_id",
    "title",
    "artist_display_name",
    "rights_and_reproduction",
    "is_public_domain",
    "link_resource",
    "split",
)


def open_source(settings: Settings) -> "BigQuerySource":
    """The tables `table` and `images`; without either, The Met's. Raises QueryError without credentials."""
    images = settings.images_table or ("" if settings.table else IMAGES)
    return BigQuerySource(settings, _table_id(settings.table or TABLE), _table_id(images) if images else "")


class BigQuerySource:
    """Objects and image addresses in two BigQuery tables, joined and filtered there."""

    label = "culture"
    applies_where = True
    pictures_are_complete = True

    def __init__(self, settings: Settings, table: str, images: str) -> None:
        self.settings, self.table = settings, table
        with _explained(settings):
            self.client = _client(settings.project)
            objects = self.client.get_table(table)
            pictures = self.client.get_table(images) if images else objects
        self._tables = (objects, pictures)
        # Our name -> the table's; a view does not tell its number of rows.
        self._theirs = _names_of(objects, settings.renamed_in("objects"))
        image_names = _names_of(pictures, settings.renamed_in("images"))
        self._columns, self.total = list(self._theirs), objects.num_rows
        self._unusable = {
            field.name: f"holds nested values ({field.mode} {field.field_type})"
            for field in objects.schema
            if field.name not in self._theirs.values()
        }
        check_renamed(settings, {"objects": list(self._theirs.values()), "images": list(image_names.values())})
        self._addresses = [name for name in ADDRESS_COLUMNS if name in image_names]
        if not self._addresses or "object_id" not in image_names:
            raise QueryError(
                f"no picture addresses: {images or table} needs object_id and one of {', '.join(ADDRESS_COLUMNS)}; "
                "name yours with columns=original_image_url=your_column"
            )
        wanted = {name: image_names[name] for name in ("object_id", *self._addresses)}
        self.images = sql.renamed(images, wanted) if images else ""
        self._image_ids = sql.renamed(images, {"object_id": image_names["object_id"]}) if images else ""

    def state(self) -> str:
        """When the tables were last changed; of a view that cannot be told, so that it is read anew each time."""
        if any(table.table_type not in (None, "TABLE") for table in self._tables):
            return f"a view at {time.time()}"
        return " ".join(f"{table.full_table_id} {table.etag} {table.modified}" for table in self._tables)

    def load(self, database: duckdb.DuckDBPyConnection) -> None:
        """Creates `raw`: a row per object that matches `where`, with the list `addresses`."""
        statement = sql.objects_with_addresses(self._matching(self._needed()), self.images, self._addresses)
        batches = self._run(statement, [])
        first = next(batches)
        # Batch by batch into DuckDB, which spills to disk: the result never sits in memory.
        failures: list[PipelineError] = []
        rest = _remembering(batches, failures)
        reader = pyarrow.RecordBatchReader.from_batches(first.schema, itertools.chain([first], rest))
        database.register("result", reader)
        try:
            database.execute("CREATE TABLE results AS SELECT * FROM result")
        except duckdb.Error:
            # DuckDB wraps what happens on a later page in an error of its own, with the whole traceback as its text.
            if failures:
                raise failures[0] from None
            raise
        database.execute("CREATE VIEW raw AS SELECT * EXCLUDE (addresses) FROM results")

    def load_pictures(self, database: duckdb.DuckDBPyConnection) -> None:
        """The addresses; for an image without one, what the bucket holds under the object's id."""
        database.execute(
            "CREATE TABLE addresses AS SELECT object_id, unnest(addresses) AS original_image_url FROM results"
        )
        template = sized(self.settings.image_base, self.settings.image_size, self.settings.sizes)
        base = BUCKET if is_template(template) else (template or BUCKET).rstrip("/")
        unknown = database.execute(
            "SELECT object_id FROM addresses JOIN labelled USING (object_id) GROUP BY object_id "
            "HAVING bool_and(original_image_url = '') ORDER BY object_id"
        ).fetchall()
        if unknown:
            database.register("listed", pyarrow.table(_list_bucket(base, [key for (key,) in unknown])))
            database.execute("INSERT INTO addresses SELECT object_id, uri FROM listed")
        create_pictures(database, "addresses", template if is_template(template) else base, base)

    def describe_attributes(self, settings: Settings) -> Attributes:
        """Counted by BigQuery: what comes back are a few rows per column, not the collection."""
        scalars = [name for name in self._columns if name not in NOT_ATTRIBUTES]
        matching = self._matching(["object_id", *scalars])
        parameters = [
            bigquery.ScalarQueryParameter("minimum", "INT64", max(settings.min_images_per_class, 1)),
            bigquery.ScalarQueryParameter("top", "INT64", TOP_VALUES),
            # BigQuery finds a part of a text as well.
            bigquery.ScalarQueryParameter("none", "STRING", f"^(?:{PATTERN})$" if settings.detects_missing else "^$"),
            bigquery.ArrayQueryParameter("words", "STRING", [word.lower() for word in settings.missing_words]),
        ]
        batches = self._run(sql.attributes(matching, self._image_ids, scalars), parameters)
        rows = [row for batch in batches for row in batch.to_pylist()]
        return arrange(rows[0]["all_objects"], settings.min_images_per_class, True, sql.attributes_of(rows, scalars))

    def _needed(self) -> list[str]:
        """Columns to ask for: BigQuery bills by the column. Raises QueryError for one that does not exist."""
        settings = self.settings
        wanted = [resolve_column(settings.label or self.label, self._columns, "label", self._unusable)]
        if settings.group:
            wanted.append(resolve_column(settings.group, self._columns, "group", self._unusable))
        own_addresses = () if self.images else self._addresses
        known = {name.lower(): name for name in self._columns}
        wanted += [
            known[name.lower()] for name in (*CARRIED, *settings.slice_columns, *own_addresses) if name.lower() in known
        ]
        if "object_id" not in wanted:
            raise QueryError(
                f"{self.table} has no column object_id{did_you_mean('object_id', self._columns)}; "
                "name yours with columns="
            )
        return list(dict.fromkeys(wanted))

    def _matching(self, columns: list[str]) -> str:
        settings = self.settings
        where = settings.where.strip()
        condition = check_condition(where, self._columns, "bigquery") if where else "TRUE"
        used = [name for name in self._columns if name.lower() in condition_columns(where, "bigquery")]
        inside = {name: self._theirs[name] for name in dict.fromkeys([*columns, *used])}
        return sql.matching(self.table, inside, columns, condition)

    def _run(self, statement: str, parameters: list) -> Iterator[pyarrow.RecordBatch]:
        """Dry run, price, then the query; yields the result batch by batch. Raises QueryError or TransientError."""
        limit = self.settings.maximum_bytes_billed
        with _explained(self.settings):
            dry = bigquery.QueryJobConfig(dry_run=True, use_query_cache=False, query_parameters=parameters)
            size = self.client.query(statement, job_config=dry).total_bytes_processed
            print(f"BigQuery will read {_bytes(size)} (at most {_bytes(limit)} allowed)", flush=True)
            if size > limit:
                raise QueryError(
                    f"the query would read {_bytes(size)}, more than maximum_bytes_billed={limit} allows; "
                    "raise that, or ask for fewer columns (slices, where)"
                )
            config = bigquery.QueryJobConfig(maximum_bytes_billed=limit, query_parameters=parameters)
            job = self.client.query(statement, job_config=config)
            rows = job.result(page_size=PAGE_ROWS)
            if rows.total_rows == 0:
                raise QueryError(
                    f"where={self.settings.where}: no object in {self.table} matches; loosen the condition"
                )
            progress = Progress(rows.total_rows or 0, "rows")
            for batch in self._batches(job, rows):
                progress.update(batch.num_rows)
                yield batch

    def _batches(self, job: bigquery.QueryJob, rows) -> Iterator[pyarrow.RecordBatch]:
        """By the Storage API, or page by page where it is not installed or these credentials may not use it."""
        fast = _storage_client(self.client)
        batches = rows.to_arrow_iterable(bqstorage_client=fast, max_queue_size=QUEUED_BATCHES)
        try:
            first = next(batches, None)
        except exceptions.Forbidden as error:
            if fast is None:
                raise
            print(f"reading page by page, as the Storage API refuses: {_message(error)}", flush=True)
            batches = job.result(page_size=PAGE_ROWS).to_arrow_iterable()
            first = next(batches, None)
        return itertools.chain([first] if first is not None else [], batches)


def _client(project: str) -> bigquery.Client:
    if os.environ.get(EMULATOR_VARIABLE):
        return bigquery.Client(project=project or "emulator", credentials=AnonymousCredentials())
    try:
        return bigquery.Client(project=project or None)
    except OSError as error:
        raise QueryError(f"source=bigquery needs project=YOUR_PROJECT, which pays for the query ({error})") from error


def _names_of(table: bigquery.Table, renamed: dict[str, str]) -> dict[str, str]:
    """{our name: the table's} of the columns that can be read as text.

    Args:
        renamed: {our name: a table's}; what this table does not have concerns the other one.
    """
    fields = [field.name for field in table.schema if field.mode != "REPEATED" and field.field_type in SCALARS]
    by_lower = {name.lower(): name for name in fields}
    changed = {ours: by_lower[theirs.lower()] for ours, theirs in renamed.items() if theirs.lower() in by_lower}
    # A renamed column takes the place of one that had the name before.
    taken = {name.lower() for pair in changed.items() for name in pair}
    return {name: name for name in fields if name.lower() not in taken} | changed


def _remembering(batches: Iterator[pyarrow.RecordBatch], failures: list) -> Iterator[pyarrow.RecordBatch]:
    try:
        yield from batches
    except PipelineError as error:
        failures.append(error)
        raise


def _storage_client(client: bigquery.Client):
    """The BigQuery Storage API's client, which reads results several times as fast; None where it is not installed."""
    try:
        from google.cloud.bigquery_storage import BigQueryReadClient
        from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport
    except ImportError:
        return None
    emulator = os.environ.get(STORAGE_EMULATOR_VARIABLE)
    if emulator:
        return BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=grpc.insecure_channel(emulator)))
    return None if os.environ.get(EMULATOR_VARIABLE) else BigQueryReadClient(credentials=client._credentials)


@contextlib.contextmanager
def _explained(settings: Settings) -> Iterator[None]:
    """Turns Google's exceptions into one line that says what to do."""
    try:
        yield
    except (TransportError, requests.RequestException, TimeoutError) as error:
        raise TransientError(f"BigQuery does not answer: {_message(error)}; try again later") from error
    except (GoogleAuthError, exceptions.Unauthorized) as error:
        raise QueryError(
            "source=bigquery needs Google Cloud credentials: run `gcloud auth application-default login`, or set "
            f"GOOGLE_APPLICATION_CREDENTIALS ({_message(error)})"
        ) from error
    except exceptions.NotFound as error:
        raise QueryError(f"BigQuery does not find a table: {_message(error)}; table=project.dataset.table") from error
    except exceptions.Forbidden as error:
        raise QueryError(f"BigQuery refuses access: {_message(error)}") from error
    except exceptions.BadRequest as error:
        where = f"where={settings.where}: " if settings.where.strip() else ""
        raise QueryError(f"{where}BigQuery does not accept the query: {_message(error)}") from error
    except (exceptions.ServerError, exceptions.TooManyRequests, exceptions.RetryError) as error:
        raise TransientError(f"BigQuery does not answer: {_message(error)}; try again later") from error
    except exceptions.GoogleAPIError as error:
        raise QueryError(f"BigQuery refuses the query: {_message(error)}") from error


def _message(error: Exception) -> str:
    text = getattr(error, "message", "") or str(error)
    # `POST https://...: Unrecognized name: x at [1:2]` and what the client adds below.
    return text.rpartition("prettyPrint=false: ")[2].strip().splitlines()[0]


def _table_id(name: str) -> str:
    """`project.dataset.table`, checked, so that it can be quoted into SQL. Raises QueryError."""
    try:
        reference = bigquery.TableReference.from_string(name)
    except ValueError as error:
        raise QueryError(f"table={name}: on BigQuery a table is called project.dataset.table") from error
    if "`" in name or "\\" in name:
        raise QueryError(f"table={name}: on BigQuery a table is called project.dataset.table")
    return f"{reference.project}.{reference.dataset_id}.{reference.table_id}"


def _list_bucket(base: str, object_ids: list[str]) -> dict[str, list[str]]:
    """Object ids and URIs of what lies at `<base>/<id>/<n>.jpg`."""
    progress = Progress(len(object_ids), "folders listed")

    def listed(object_id: str) -> list[tuple[str, str]]:
        files = storage.list_files(storage.join(base, object_id))
        progress.update()
        return [(object_id, file.uri) for file in files]

    with ThreadPoolExecutor(LISTERS) as threads:
        found = [pair for pairs in threads.map(listed, object_ids) for pair in pairs]
    return {"object_id": [key for key, _ in found], "uri": [uri for _, uri in found]}


def _bytes(number: int) -> str:
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:,} bytes"
