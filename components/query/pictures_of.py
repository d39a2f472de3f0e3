"""The images of labelled objects, with the ids that name them everywhere after."""

import duckdb

from components.query import corrections
from components.query.collection import Roles
from components.query.database import scalar
from components.query.settings import QueryError, Settings


def join_pictures(database: duckdb.DuckDBPyConnection, settings: Settings, roles: Roles) -> int:
    """Creates `candidates`: a row per image, with its final id. Returns the number of objects without an image."""
    # Ids become names of files, tar members and URLs. What had to be changed gets a hash, so that no two become one.
    database.execute(f"""
        CREATE TABLE candidates AS
        WITH named AS (
            SELECT *, {corrections.KEY} AS key FROM labelled
        )
        SELECT named.* EXCLUDE (key), key || CASE WHEN position > 0 THEN '-' || position ELSE '' END AS key,
            position, image_uri
        FROM named JOIN pictures USING (object_id)
    """)
    if not scalar(database, "SELECT count(*) FROM candidates"):
        raise QueryError(
            f"none of {scalar(database, 'SELECT count(*) FROM labelled'):,} objects with a value in {roles.label} has "
            f"a picture: the objects have ids such as {_examples(database, 'labelled')}, and "
            f"{settings.images_table or settings.table or 'the pictures'} such as {_examples(database, 'pictures')}"
        )
    if scalar(database, "SELECT count(*) > count(DISTINCT key) FROM candidates"):
        database.execute("""
            UPDATE candidates SET key = key || '-' || md5(object_id || ':' || position)[:8]
            WHERE position > 0 AND key IN (SELECT key FROM candidates GROUP BY key HAVING count(*) > 1)
        """)
    return scalar(database, "SELECT count(*) FROM labelled WHERE object_id NOT IN (SELECT object_id FROM candidates)")


def _examples(database: duckdb.DuckDBPyConnection, table: str) -> str:
    rows = database.execute(f"SELECT DISTINCT object_id FROM {table} ORDER BY object_id LIMIT 3").fetchall()
    return ", ".join(key for (key,) in rows) or "none"
