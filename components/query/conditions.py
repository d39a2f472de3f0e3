"""`where`: one SQL condition on the columns of the collection, and nothing else."""

from typing import Iterable

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from components.query.settings import QueryError
from components.shared.parameters import did_you_mean

EXAMPLE = "is_public_domain AND object_begin_date > 1800"


def check_condition(text: str, columns: Iterable[str], dialect: str) -> str:
    """The condition `text`, parsed and written anew in `dialect`, so that nothing can hide in quotes or comments.

    Args:
        columns: The columns that it may name.
        dialect: sqlglot's name of the SQL dialect: duckdb or bigquery.

    Raises:
        QueryError: not one expression, a SELECT inside it, or an unknown column.
    """
    condition = _parse(text, dialect)
    known = {name.lower(): name for name in columns}
    for name in _columns(condition):
        if name.lower() not in known:
            raise QueryError(f"where={text}: there is no column {name}{did_you_mean(name, known.values())}")
    return condition.sql(dialect, comments=False)


def condition_columns(text: str, dialect: str) -> set[str]:
    """Names of the columns in the condition, in lower case; empty for no condition. Raises QueryError."""
    return {name.lower() for name in _columns(_parse(text, dialect))} if text.strip() else set()


def _parse(text: str, dialect: str) -> exp.Expression:
    try:
        statements = sqlglot.parse(text, dialect=dialect)
    except SqlglotError as error:
        reason = str(error).splitlines()[0].split(". Line")[0]
        raise QueryError(f"where={text}: not an SQL condition ({reason}); write it such as: {EXAMPLE}") from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Condition) or statements[0].find(exp.Query):
        raise QueryError(f"where={text}: must be one condition on the columns, without SELECT; such as: {EXAMPLE}")
    return statements[0]


def _columns(condition: exp.Expression) -> list[str]:
    """Top-level names: of `artist.name` (a field of a nested column) that is `artist`."""
    return [column.parts[0].name for column in condition.find_all(exp.Column)]
