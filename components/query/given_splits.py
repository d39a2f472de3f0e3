"""Splits that a collection brings along: a column `split`, or folders train/, val/ and test/, are taken as they are.

What is missing is split off train, by hash as everywhere (see splits.py); an object without a value belongs to train. A
group in two of them is a leak between them, which is reported; `split_leaks=remove` takes it out of train.
"""

from collections.abc import Iterable, Mapping

import duckdb
import pyarrow

from components.artifacts.objects import SPLITS
from components.query.database import identifier, row, scalar
from components.query.settings import QueryError, Settings

TRAIN, VALIDATION, TEST = SPLITS
# What people call them.
_NAMES = {
    TRAIN: ("train", "training", "trn", "learn"),
    VALIDATION: ("val", "valid", "validation", "validate", "dev", "devel", "development"),
    TEST: ("test", "testing", "tst"),
}
SPELLINGS = {spelling: side for side, spellings in _NAMES.items() for spelling in spellings}


def are_splits(names: Iterable[str], spellings: Mapping[str, str]) -> bool:
    """Whether the folders `names` are a split: train and another one, by whatever spelling, and no others."""
    sides = {spellings.get(name.lower(), "") for name in names}
    return len(sides) > 1 and TRAIN in sides and "" not in sides


def create_given(database: duckdb.DuckDBPyConnection, settings: Settings, column: str) -> None:
    """Creates `given_values(spelled, side)` of the `column` of `objects`; empty without one.

    Raises:
        QueryError: a value is no split, or all objects are in splits that nothing is learned from.
    """
    database.execute("CREATE TABLE given_values (spelled VARCHAR, side VARCHAR)")
    if not column:
        return
    sides = settings.split_sides or SPELLINGS
    rows = database.execute(
        f"SELECT {identifier(column)} AS spelled, clean(spelled) FROM objects GROUP BY 1 HAVING clean(spelled) != ''"
    ).fetchmany(1000)
    unknown = sorted({value for _, value in rows if value.lower() not in sides})
    if unknown:
        shown = ", ".join(repr(value) for value in unknown[:3])
        raise QueryError(
            f"the column {column} has values that are no split, such as {shown}: say what they mean, such as "
            f"split_given={unknown[0]}=train,..., or ignore the column with split_given=none"
        )
    if rows and TRAIN not in {sides[value.lower()] for _, value in rows}:
        empty = f"SELECT count(*) FROM objects WHERE coalesce(clean({identifier(column)}), '') = ''"
        if not scalar(database, empty):
            raise QueryError(f"the column {column} leaves nothing to train on; split_given=none ignores it")
    if rows:
        table = pyarrow.table({"spelled": [text for text, _ in rows], "side": [sides[v.lower()] for _, v in rows]})
        database.register("given", table)
        database.execute("INSERT INTO given_values SELECT * FROM given")
        database.unregister("given")


def given_sides(database: duckdb.DuckDBPyConnection) -> set[str]:
    """The splits that objects of `chosen` are given in."""
    return {side for (side,) in database.execute("SELECT DISTINCT given FROM chosen WHERE given != ''").fetchall()}


def separate_leaks(database: duckdb.DuckDBPyConnection, settings: Settings, group: str) -> list[str]:
    """Sentences about groups (of the column `group`) of `chosen` in two given splits.

    Their training images go, if the user lets them.
    """
    in_train = "given NOT IN ('validation', 'test')"
    groups, images, example = row(
        database,
        f"""
        SELECT count(*), coalesce(sum(training), 0), min("group") FROM (
            SELECT "group", count(*) FILTER ({in_train}) AS training FROM chosen
            GROUP BY "group" HAVING count(DISTINCT CASE WHEN {in_train} THEN '{TRAIN}' ELSE given END) > 1
        )
        """,
    )
    if not groups:
        return []
    which = f"{groups:,} groups ({group or 'object_id'}), such as {example}, stand in more than one given split"
    if settings.split_leaks != "remove" or not images:
        advice = "; split_leaks=remove takes them out of train" if images else ""
        return [f"{which}, with {int(images):,} images in train{advice}"]
    database.execute(f"""
        CREATE TABLE kept AS SELECT * FROM chosen WHERE NOT ({in_train} AND "group" IN
            (SELECT "group" FROM chosen WHERE given IN ('{VALIDATION}', '{TEST}')))
    """)
    kind = scalar(database, "SELECT table_type FROM information_schema.tables WHERE table_name = 'chosen'")
    database.execute(f"DROP {'VIEW' if kind == 'VIEW' else 'TABLE'} chosen")
    database.execute("ALTER TABLE kept RENAME TO chosen")
    return [f"{which}: their {int(images):,} images in train are left out (split_leaks=remove)"]
