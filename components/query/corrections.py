"""What a person corrected (components.artifacts.corrections), put into the selection.

An object that has a class gets its new one after the splits are assigned, so that neither its own split nor that of any
other object changes. One that had none gets its first class before, and is then an object like others that are new.
"""

from dataclasses import dataclass

import duckdb

from components.artifacts import corrections
from components.query.settings import QueryError, Settings
from components.shared.parameters import did_you_mean

# The name of an object's first image, as selection.py gives it.
KEY = r"""CASE WHEN regexp_full_match(object_id, '[A-Za-z0-9_-]{1,80}') THEN object_id ELSE
    regexp_replace(object_id[:80], '[^A-Za-z0-9_-]+', '-', 'g') || '-' || md5(object_id)[:8] END"""


@dataclass(frozen=True)
class Corrected:
    """What became of the corrections.

    Attributes:
        changed: (object_id, title, class before or empty, class now) of each object that has another class.
        others: how many lines change nothing: rejected suggestions, and objects that have the class already.
        not_selected: object_ids that the collection has and this selection has not.
    """

    changed: tuple[tuple[str, str, str, str], ...] = ()
    others: int = 0
    not_selected: tuple[str, ...] = ()


def load(database: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Creates `corrections(object_id, changes, label, line)`, empty without the parameter. Raises PipelineError."""
    database.execute("CREATE TABLE corrections (object_id VARCHAR, changes BOOLEAN, label VARCHAR, line INTEGER)")
    if settings.label_corrections:
        found = corrections.read(settings.label_corrections).values()
        rows = [(item.object_id, item.changes, item.label, item.line) for item in found]
        database.executemany("INSERT INTO corrections VALUES (?, ?, ?, ?)", rows)


def give_first_labels(database: duckdb.DuckDBPyConnection) -> None:
    """Creates `first_labels(key)`: the objects of `candidates_of_label` without a class, which get the corrected one.

    They also get a `value`, so that they no longer count among those without.
    """
    database.execute(f"""
        CREATE TABLE first_labels AS SELECT DISTINCT {KEY} AS key FROM candidates_of_label
        WHERE class IS NULL AND object_id != '' AND {KEY} IN (SELECT object_id FROM corrections WHERE changes)
    """)
    database.execute(f"""
        UPDATE candidates_of_label SET class = corrections.label, value = corrections.label FROM corrections
        WHERE corrections.object_id = {KEY.replace("object_id", "candidates_of_label.object_id")}
            AND class IS NULL AND changes
    """)


def apply(database: duckdb.DuckDBPyConnection, settings: Settings) -> Corrected:
    """Creates `corrected` from `chosen`, with the classes that were corrected.

    Raises:
        QueryError: a line names an object or a class that is not there.
    """
    if not settings.label_corrections:
        database.execute("CREATE VIEW corrected AS SELECT * FROM chosen")
        return Corrected()
    _check(database, settings)
    database.execute("""
        CREATE TABLE corrected AS
        SELECT chosen.* REPLACE (coalesce(new.class, chosen.class) AS class,
            coalesce(new.label_index, chosen.label_index) AS label_index)
        FROM chosen LEFT JOIN (
            SELECT object_id, class, label_index FROM corrections JOIN classes ON class = label WHERE changes
        ) AS new ON new.object_id = key
    """)
    changed = database.execute("""
        SELECT key, chosen.title, CASE WHEN key IN (SELECT key FROM first_labels) THEN '' ELSE chosen.class END AS was,
            corrected.class
        FROM chosen JOIN corrected USING (key) WHERE was != corrected.class ORDER BY key
    """).fetchall()
    absent = database.execute(
        "SELECT object_id FROM corrections WHERE changes AND object_id NOT IN (SELECT key FROM chosen) ORDER BY line"
    ).fetchall()
    lines = database.execute("SELECT count(*) FROM corrections").fetchall()[0][0]
    others = lines - len({key for key, *_ in changed}) - len(absent)
    return Corrected(tuple(changed), others, tuple(key for (key,) in absent))


def _check(database: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    where = f"label_corrections={settings.label_corrections}, line"
    unknown = database.execute(f"""
        SELECT line, object_id FROM corrections WHERE object_id NOT IN (SELECT key FROM candidates)
            AND object_id NOT IN (SELECT {KEY} FROM candidates_of_label) ORDER BY line LIMIT 1
    """).fetchone()
    if unknown:
        raise QueryError(
            f"{where} {unknown[0]}: there is no object {unknown[1]} here; take the line out, or correct its object_id "
            "or where"
        )
    names = [name for (name,) in database.execute("SELECT class FROM classes ORDER BY class").fetchall()]
    strange = database.execute("""
        SELECT line, label FROM corrections WHERE changes AND label NOT IN (SELECT class FROM classes)
        ORDER BY line LIMIT 1
    """).fetchone()
    if strange:
        hint = did_you_mean(strange[1], names) or f"; there are {', '.join(names[:20])}"
        raise QueryError(f"{where} {strange[0]}: there is no class {strange[1]!r}{hint}")
