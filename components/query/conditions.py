"""`where`: one SQL condition on the columns of the collection, in a grammar that is listed here, and nothing else."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from components.query.settings import QueryError
from components.shared.parameters import did_you_mean

EXAMPLE = "is_public_domain AND object_begin_date > 1800"
_VALUES = (exp.Column, exp.Identifier, exp.Literal, exp.Boolean, exp.Null, exp.Paren, exp.Tuple, exp.Interval, exp.Var)
_LOGIC = (exp.And, exp.Or, exp.Not, exp.Is, exp.In, exp.Between, exp.Case, exp.If, exp.Coalesce, exp.Nullif)
_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ)
_ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod, exp.Neg)
_PATTERNS = (exp.Like, exp.ILike, exp.Escape, exp.SimilarTo, exp.RegexpLike, exp.RegexpILike, exp.Glob)
_TYPES = (exp.Cast, exp.TryCast, exp.DataType, exp.DataTypeParam)
_TEXTS: tuple[type[Any], ...] = (
    *(exp.Lower, exp.Upper, exp.Trim, exp.Length, exp.Substring, exp.Left, exp.Right, exp.Concat, exp.DPipe),
    *(exp.StartsWith, exp.EndsWith, exp.Contains, exp.StrPosition, exp.Replace, exp.SplitPart, exp.RegexpReplace),
)
_NUMBERS: tuple[type[Any], ...] = (exp.Abs, exp.Round, exp.Floor, exp.Ceil, exp.Least, exp.Greatest)
_LISTS = (exp.ArrayContains, exp.Bracket)
_DATES = (exp.Date, exp.Year, exp.Month, exp.Day, exp.Extract, exp.TsOrDsToDate)
_ALLOWED = {*_VALUES, *_LOGIC, *_COMPARISONS, *_ARITHMETIC, *_PATTERNS, *_TYPES, *_TEXTS, *_NUMBERS, *_DATES}
_ALLOWED |= {*_LISTS}
# Where a column is compared or reckoned with; in a pattern, or as a text's part, it stays the text that it is.
_TYPED: tuple[type[Any], ...] = (*_LOGIC, *_COMPARISONS, *_ARITHMETIC, *_NUMBERS, *_DATES)


def check_condition(
    text: str,
    columns: Iterable[str],
    dialect: str,
    typed: Callable[[set[str]], Mapping[str, str]] = lambda _: {},
    parameter: str = "where",
) -> str:
    """The condition `text`, parsed and written anew in `dialect`, so that nothing can hide in quotes or comments.

    Args:
        columns: The columns that it may name.
        dialect: sqlglot's name of the SQL dialect: duckdb or bigquery.
        typed: Given the names of those that it names, SQL that stands for some of them where they are compared.
        parameter: Whose value it is, for the messages.

    Raises:
        QueryError: not one expression of the grammar above, or an unknown column.
    """
    condition = _parse(text, dialect, parameter)
    known = {name.lower(): name for name in columns}
    named = _columns(condition)
    for _, name in named:
        if name.lower() not in known:
            raise QueryError(f"{parameter}={text}: there is no column {name}{did_you_mean(name, known.values())}")
    replaced = typed({known[name.lower()] for _, name in named})
    for column, name in named:
        name = known[name.lower()]
        node: exp.Expr = exp.column(exp.to_identifier(name, quoted=True))
        if name in replaced and _is_compared(column):
            node = exp.paren(sqlglot.parse_one(replaced[name], dialect=dialect))
        condition = node if column is condition else condition
        column.replace(node)
    return condition.sql(dialect, comments=False)


def condition_columns(text: str, dialect: str, parameter: str = "where") -> set[str]:
    """Names of the columns in the condition, in lower case; empty for no condition. Raises QueryError."""
    return {name.lower() for _, name in _columns(_parse(text, dialect, parameter))} if text.strip() else set()


def _parse(text: str, dialect: str, parameter: str) -> exp.Expr:
    try:
        statements = sqlglot.parse(text, dialect=dialect)
        if len(statements) != 1 or not isinstance(statements[0], exp.Condition) or statements[0].find(exp.Query):
            raise QueryError(
                f"{parameter}={text}: must be one condition on the columns, without SELECT; such as: {EXAMPLE}"
            )
        for node in statements[0].walk():
            _check(node, text, parameter)
        statements[0].sql(dialect)
    except SqlglotError as error:
        reason = str(error).splitlines()[0].split(". Line")[0]
        raise QueryError(f"{parameter}={text}: not an SQL condition ({reason}); write it such as: {EXAMPLE}") from error
    except RecursionError as error:
        raise QueryError(
            f"{parameter}={text[:60]}...: is nested too deeply; write fewer parentheses, or IN (...)"
        ) from error
    return statements[0]


def _check(node: exp.Expr, text: str, parameter: str) -> None:
    is_list = not isinstance(node, exp.In) or isinstance(node.args.get("field"), exp.Column | None)
    if type(node) in _ALLOWED and is_list:
        return
    name = node.name if isinstance(node, exp.Anonymous) else node.sql_name() if isinstance(node, exp.Func) else node.key
    functions = sorted(kind.sql_name().lower() for kind in (*_TEXTS, *_NUMBERS) if issubclass(kind, exp.Func))
    raise QueryError(
        f"{parameter}={text}: {name} may not stand in a condition; it takes comparisons, AND, OR, NOT, IN, BETWEEN, "
        f"LIKE, CASE, CAST, arithmetic, and {', '.join(functions)}"
    )


def _columns(condition: exp.Expr) -> list[tuple[exp.Column, str]]:
    """The columns, each with its name; `artist.name` is a field of a nested column."""
    found = list(condition.find_all(exp.Column))
    return [(column, ".".join(part.name for part in column.parts)) for column in found]


def _is_compared(column: exp.Column) -> bool:
    parent = column.parent
    while isinstance(parent, exp.Paren):
        parent = parent.parent
    return parent is None or isinstance(parent, _TYPED)
