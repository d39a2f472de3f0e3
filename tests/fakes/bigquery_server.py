"""BigQuery's REST API as far as google-cloud-bigquery needs it, over DuckDB: tables, jobs, dry runs, pages, errors."""

import contextlib
import json
import re
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import duckdb
import grpc
import pyarrow
import sqlglot
from google.cloud.bigquery_storage_v1 import types as storage_types
from sqlglot import exp

TYPES = {"BIGINT": "INTEGER", "INTEGER": "INTEGER", "HUGEINT": "INTEGER", "DOUBLE": "FLOAT", "BOOLEAN": "BOOLEAN"}
BYTES_PER_VALUE = 8


class BigQueryError(Exception):
    """An answer with an HTTP status and a reason, such as 400 invalidQuery."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


def _parameter(item: dict) -> int | str | list[str]:
    value = item["parameterValue"]
    if item["parameterType"]["type"] == "ARRAY":
        return [each["value"] for each in value.get("arrayValues", [])]
    return int(value["value"]) if item["parameterType"]["type"] == "INT64" else value["value"]


class BigQueryServer:
    """Tables by their full names, and what was asked of them.

    Attributes:
        queries: (SQL, configuration) of every job that ran; dry runs are in `dry_runs`.
        pages: Result pages given out.
        failures: Errors that the next requests get, whatever they ask for.
        page_failures: Start row -> error of the result page from there on.
        modified: Table -> when it was last changed, in milliseconds; 1 where nothing is said.
        views: Names of tables that do not tell their number of rows.
    """

    def __init__(self, page_rows: int) -> None:
        self.database = duckdb.connect()
        self.database.execute("CREATE MACRO normalize(text) AS nfc_normalize(text)")
        self.lock = threading.Lock()
        self.page_rows = page_rows
        self.tables: set[str] = set()
        self.jobs: dict[str, dict] = {}
        self.results: dict[str, pyarrow.Table] = {}
        self.read_sessions = 0
        self.storage_is_allowed = True
        self.queries: list[tuple[str, dict]] = []
        self.dry_runs: list[str] = []
        self.pages = 0
        self.failures: list[BigQueryError] = []
        self.page_failures: dict[int, BigQueryError] = {}
        self.views: set[str] = set()
        self.modified: dict[str, int] = {}

    def add_table(self, name: str, source: str) -> None:
        """Makes the result of the DuckDB query `source` a table called project.dataset.table."""
        self.database.execute(f'CREATE TABLE "{name}" AS {source}')
        self.tables.add(name)

    def answer(self, method: str, path: str, parameters: dict, body: dict) -> dict:
        """One request of the API."""
        if self.failures:
            raise self.failures.pop(0)
        if found := re.fullmatch(r"/projects/([^/]+)/datasets/([^/]+)/tables/([^/]+)", path):
            return self._table(".".join(found.groups()))
        if method == "POST" and re.fullmatch(r"/projects/[^/]+/jobs", path):
            return self._insert(body)
        if found := re.fullmatch(r"/projects/[^/]+/(jobs|queries)/([^/]+)", path):
            job = self.jobs.get(found[2])
            if job is None:
                raise BigQueryError(404, "notFound", f"Not found: Job {found[2]}")
            return job["resource"] if found[1] == "jobs" else self._page(job, parameters)
        raise BigQueryError(404, "notFound", f"{method} {path} is not part of this server")

    def _table(self, name: str) -> dict:
        self._check_table(name)
        project, dataset, table = name.split(".")
        described = self.database.execute(f'DESCRIBE "{name}"').fetchall()
        rows = self.database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
        return {
            "kind": "bigquery#table",
            "tableReference": {"projectId": project, "datasetId": dataset, "tableId": table},
            "id": f"{project}:{dataset}.{table}",
            "type": "VIEW" if name in self.views else "TABLE",
            "lastModifiedTime": str(self.modified.get(name, 1)),
            "schema": {"fields": [_field(row[0], row[1]) for row in described]},
        } | ({} if name in self.views else {"numRows": str(rows)})

    def _insert(self, body: dict) -> dict:
        configuration = body["configuration"]
        query = configuration["query"]
        tree = self._parse(query["query"])
        size = self._bytes(tree)
        reference = body.get("jobReference", {}) | {"projectId": "emulator", "location": "US"}
        reference.setdefault("jobId", uuid.uuid4().hex)
        resource = {
            "kind": "bigquery#job",
            "id": reference["jobId"],
            "jobReference": reference,
            "configuration": configuration,
            "status": {"state": "DONE"},
            "statistics": {
                "totalBytesProcessed": str(size),
                "query": {"totalBytesProcessed": str(size), "statementType": "SELECT"},
            },
        }
        result, arrow = self._execute(tree, query)
        destination = {"projectId": "emulator", "datasetId": "results", "tableId": reference["jobId"].replace("-", "_")}
        resource["configuration"]["query"]["destinationTable"] = destination
        if configuration.get("dryRun"):
            self.dry_runs.append(query["query"])
            return resource
        limit = int(query.get("maximumBytesBilled", 1 << 60))
        if size > limit:
            raise BigQueryError(
                400,
                "bytesBilledLimitExceeded",
                f"Query exceeded limit for bytes billed: {limit}. {size} or higher required.",
            )
        self.queries.append((query["query"], configuration))
        self.jobs[reference["jobId"]] = {"resource": resource, "result": result}
        self.results[destination["tableId"]] = arrow
        return resource

    def _parse(self, text: str) -> exp.Expression:
        try:
            return sqlglot.parse_one(text, dialect="bigquery")
        except sqlglot.errors.SqlglotError as error:
            raise BigQueryError(400, "invalidQuery", f"Syntax error: {str(error).splitlines()[0]}") from error

    def _execute(self, tree: exp.Expression, query: dict) -> tuple[tuple[list[dict], list[tuple]], pyarrow.Table]:
        tree = tree.copy()
        for table in list(tree.find_all(exp.Table)):
            if table.catalog:
                name = f"{table.catalog}.{table.db}.{table.name}"
                self._check_table(name)
                table.replace(exp.Table(this=exp.to_identifier(name, quoted=True), alias=table.args.get("alias")))
        values = {}
        for item in query.get("queryParameters", []):
            values[item["name"]] = _parameter(item)
        for parameter in list(tree.find_all(exp.Parameter)):
            parameter.replace(exp.Placeholder(this=parameter.name))
        try:
            sql = tree.sql("duckdb")
            cursor = self.database.cursor().execute(sql, values or None)
            result = [_field(column[0], str(column[1])) for column in cursor.description], cursor.fetchall()
            return result, self.database.sql(sql, params=values or None).to_arrow_table()
        except duckdb.Error as error:
            raise BigQueryError(400, "invalidQuery", f"{str(error).splitlines()[0]} at [1:1]") from error

    def _bytes(self, tree: exp.Expression) -> int:
        """Whole columns of the tables that are read, as BigQuery bills."""
        asked = {column.name.lower() for column in tree.find_all(exp.Column)}
        size = 0
        for name in {f"{t.catalog}.{t.db}.{t.name}" for t in tree.find_all(exp.Table) if t.catalog} & self.tables:
            rows = self.database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
            columns = [row[0] for row in self.database.execute(f'DESCRIBE "{name}"').fetchall()]
            size += rows * BYTES_PER_VALUE * sum(column.lower() in asked for column in columns)
        return size

    def _check_table(self, name: str) -> None:
        if name not in self.tables:
            project, dataset, table = name.split(".")
            raise BigQueryError(
                404, "notFound", f"Not found: Table {project}:{dataset}.{table} was not found in location US"
            )

    def _page(self, job: dict, parameters: dict) -> dict:
        fields, rows = job["result"]
        start = int(parameters.get("pageToken", parameters.get("startIndex", ["0"]))[0])
        if start in self.page_failures:
            raise self.page_failures[start]
        wanted = min(self.page_rows, int(parameters.get("maxResults", [self.page_rows])[0]))
        page = rows[start : start + wanted]
        if wanted:
            self.pages += 1
        following = {"pageToken": str(start + wanted)} if start + wanted < len(rows) else {}
        return {
            "kind": "bigquery#getQueryResultsResponse",
            "jobReference": job["resource"]["jobReference"],
            "jobComplete": True,
            "schema": {"fields": fields},
            "totalRows": str(len(rows)),
            "rows": [{"f": [{"v": _value(value, field)} for value, field in zip(row, fields)]} for row in page],
        } | following

    def create_read_session(self, request, context):
        """The Storage API: one stream over a result, in Arrow."""
        if not self.storage_is_allowed:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "no bigquery.readsessions.create")
        name = request.read_session.table.rpartition("/")[2]
        self.read_sessions += 1
        return storage_types.ReadSession(
            name=f"projects/emulator/locations/us/sessions/{name}",
            table=request.read_session.table,
            data_format=storage_types.DataFormat.ARROW,
            arrow_schema={"serialized_schema": self.results[name].schema.serialize().to_pybytes()},
            streams=[{"name": f"projects/emulator/locations/us/sessions/{name}/streams/0"}],
        )

    def read_rows(self, request, context):
        """The stream's batches, of at most `page_rows` rows."""
        name = request.read_stream.split("/")[-3]
        skipped = self.results[name].slice(request.offset)
        for batch in skipped.to_batches(max_chunksize=self.page_rows):
            data = batch.serialize().to_pybytes()
            yield storage_types.ReadRowsResponse(
                arrow_record_batch={"serialized_record_batch": data, "row_count": batch.num_rows},
                arrow_schema={"serialized_schema": batch.schema.serialize().to_pybytes()},
                row_count=batch.num_rows,
            )


def _field(name: str, kind: str) -> dict:
    mode = "REPEATED" if kind.endswith("[]") else "NULLABLE"
    if kind.startswith("STRUCT"):
        return {"name": name, "type": "RECORD", "mode": mode, "fields": [{"name": "x", "type": "STRING"}]}
    return {"name": name, "type": TYPES.get(kind.removesuffix("[]").split("(")[0], "STRING"), "mode": mode}


def _value(value: object, field: dict) -> object:
    if field["mode"] == "REPEATED":  # BigQuery has no NULL arrays: they are empty
        return [{"v": str(item)} for item in value or []]
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None else str(value)


@contextlib.contextmanager
def serve_bigquery(page_rows: int = 1000) -> Iterator[tuple[BigQueryServer, str]]:
    """A server on loopback and its address."""
    server = BigQueryServer(page_rows)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            address = urlsplit(self.path)
            path = address.path.removeprefix("/bigquery/v2")
            status = 200
            try:
                with server.lock:
                    answer = server.answer(self.command, path, parse_qs(address.query), body)
            except BigQueryError as error:
                status = error.status
                detail = {"reason": error.reason, "message": str(error)}
                answer = {"error": {"code": status, "message": str(error), "errors": [detail], "status": error.reason}}
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *arguments: object) -> None:
            """Quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


@contextlib.contextmanager
def serve_storage_api(server: BigQueryServer) -> Iterator[str]:
    """The Storage API of `server` on loopback; gives host:port."""
    types = storage_types
    create = grpc.unary_unary_rpc_method_handler(
        server.create_read_session, types.CreateReadSessionRequest.deserialize, types.ReadSession.serialize
    )
    read = grpc.unary_stream_rpc_method_handler(
        server.read_rows, types.ReadRowsRequest.deserialize, types.ReadRowsResponse.serialize
    )
    service = "google.cloud.bigquery.storage.v1.BigQueryRead"
    handler = grpc.method_handlers_generic_handler(service, {"CreateReadSession": create, "ReadRows": read})
    grpc_server = grpc.server(ThreadPoolExecutor(4), handlers=[handler])
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    grpc_server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        grpc_server.stop(None).wait()
