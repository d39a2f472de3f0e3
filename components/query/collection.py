"""From a source's rows to `objects` (what matches `where`) and `labelled` (what has a class)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import duckdb

from components.artifacts.objects import SLICE_PREFIX
from components.query import corrections
from components.query.collections import Collection, Resolved
from components.query.columns import columns_of, comparable, texts_of, unify_ids
from components.query.conditions import check_condition
from components.query.database import close_files, column_names, first_line, identifier, literal, row, scalar
from components.query.given_splits import create_given
from components.query.labels import create_label_values, load_label_map, resolve_column
from components.query.missing import Missing, create_values, found_missing, unify_capitals
from components.query.settings import SLICES, QueryError, Settings
from components.query.source import Source
from components.shared.parameters import did_you_mean

MOST_TOLD = 10
ARTIST = "artist_display_name"
LABELLED_COLUMNS = {"title": "title", "artist": ARTIST, "rights": "rights_and_reproduction"}
LABELLED_COLUMNS |= {"credit": "credit_line", "link": "link_resource"}


@dataclass(frozen=True)
class Roles:
    """Which column plays which part; `group` is empty for "every object is its own group", `split` for none given.

    `notes` are sentences about what was done otherwise than the parameters may lead to expect.
    """

    label: str
    group: str
    slices: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()
    split: str = ""


@dataclass(frozen=True)
class Counts:
    """Objects: in the source, matching `where`, and the reasons for which they got no class.

    `closed` match and have no open image, by the collection's own field. `missing` are the values of label, group and
    slices that count as no value; `unusable` is {column that has no plain text: why}.
    """

    source: int
    matching: int
    no_id: int = 0
    no_label: int = 0
    unmapped: int = 0
    repeated: int = 0
    ambiguous: int = 0
    closed: int = 0
    missing: tuple[Missing, ...] = ()
    unusable: Mapping[str, str] = field(default_factory=dict)


def load_objects(
    database: duckdb.DuckDBPyConnection, source: Source, settings: Settings, outputs: tuple[str, ...] = ()
) -> Counts:
    """Creates `objects`: the rows of the source that match `where`, every column a string.

    From then on, no statement opens another file than those of the source and the `outputs`.

    Raises:
        QueryError: the source cannot be read, lacks object_id, or `where` is no condition on it or matches nothing.
    """
    try:
        source.load(database)
        columns = columns_of(database, "raw")
        texts = texts_of(database, "raw", columns)
    except duckdb.Error as error:
        raise QueryError(f"source={settings.source}: cannot read the objects: {first_line(error)}") from error
    close_files(database, [*getattr(source, "files", ()), *outputs])
    _check_ids(texts.sql, texts.unusable)

    def typed(named: set[str]) -> dict[str, str]:
        return comparable(database, "raw", [column for column in columns if column.name in named])

    def checked(text: str, parameter: str) -> str:
        names = [column.name for column in columns]
        return check_condition(text, names, "duckdb", typed, parameter) if text.strip() else ""

    condition = "" if source.applies_where else checked(settings.where, "where")
    opened = checked(open_condition(settings), "open")
    both = " AND ".join(f"({each})" for each in (condition, opened) if each)
    try:
        total, matching = _select(database, texts.sql, both)
        closed = scalar(database, f"SELECT count(*) FROM raw WHERE ({condition or 'true'})") - matching if opened else 0
    except duckdb.Error as error:
        where = f"where={settings.where}: " if condition else ""
        raise QueryError(f"{where}cannot read the objects: {first_line(error)}") from error
    total = total if source.total is None else source.total
    if not matching and closed:
        raise QueryError(
            f"none of {closed:,} objects has an open image, by the collection's own field; rights=any takes them, "
            "where you have the right"
        )
    if not matching:
        raise QueryError(_nothing(total, settings))
    return Counts(total, matching, closed=closed, unusable=texts.unusable)


def open_condition(settings: Settings) -> str:
    """SQL of which objects are open, by the named collection's own field; empty for all."""
    collection = settings.collection if isinstance(settings, Resolved) else None
    return collection.open if collection and settings.rights != "any" else ""


def _select(database: duckdb.DuckDBPyConnection, texts: Mapping[str, str], condition: str) -> tuple[int, int]:
    """Creates `objects`; returns the number of rows of `raw`, and how many match."""
    kind = scalar(database, "SELECT table_type FROM information_schema.tables WHERE table_name = 'raw'")
    if not condition and kind == "BASE TABLE" and all(identifier(name) == sql for name, sql in texts.items()):
        database.execute("ALTER TABLE raw RENAME TO objects")
    else:
        selected = ", ".join(f"{sql} AS {identifier(name)}" for name, sql in texts.items())
        database.execute(f"CREATE TABLE objects AS SELECT {selected} FROM raw WHERE ({condition or 'true'})")
    unify_ids(database, "objects")
    matching = scalar(database, "SELECT count(*) FROM objects")
    return scalar(database, "SELECT count(*) FROM raw") if condition else matching, matching


def _check_ids(columns: Mapping[str, str], unusable: Mapping[str, str]) -> None:
    if "object_id" in [name.lower() for name in columns]:
        return
    for name, reason in unusable.items():
        if name.lower() == "object_id":
            raise QueryError(f"the column object_id {reason}; name another with columns=object_id=your_column")
    there = ", ".join(list(columns)[:50])
    raise QueryError(
        f"there is no column object_id{did_you_mean('object_id', columns)}; there are {there}; name yours with "
        "columns=object_id=your_column"
    )


def find_roles(database: duckdb.DuckDBPyConnection, source: Source, settings: Settings, counts: Counts) -> Roles:
    """The columns for label, group and slices. Raises QueryError that names the nearest columns."""
    columns = column_names(database, "objects")
    by_lower = {name.lower(): name for name in columns}
    label = resolve_column(settings.label or source.label, columns, "label", counts.unusable)
    if settings.group:
        group = resolve_column(settings.group, columns, "group", counts.unusable)
    else:
        group = by_lower.get(ARTIST, "") if label.lower() != ARTIST else ""
    slices = tuple((name, by_lower[name.lower()]) for name in settings.slice_columns if name.lower() in by_lower)
    # Of the default's columns a collection need not have any; a column that someone names should be there.
    missing = [name for name in settings.slice_columns if name.lower() not in by_lower and settings.slices != SLICES]
    notes = [f"slices: there is no column {name}{did_you_mean(name, columns)}, so it is left out" for name in missing]
    unusable = [f"the column {name} {reason}, so it is left out" for name, reason in counts.unusable.items()]
    notes += unusable[:MOST_TOLD]
    if len(unusable) > MOST_TOLD:
        notes.append(f"{len(unusable) - MOST_TOLD} more columns hold lists or nested values, so they are left out")
    given = by_lower.get("split", "") if settings.split_given.strip().lower() != "none" else ""
    # A column that is learned says nothing of the split.
    return Roles(label, group, slices, tuple(notes), given if given != label else "")


def label_objects(database: duckdb.DuckDBPyConnection, settings: Settings, roles: Roles, counts: Counts) -> Counts:
    """Creates `labelled(object_id, class, group, title, artist, rights, link, given, meta_*)`, one row per object.

    Returns:
        `counts` with the objects that got no class.

    Raises:
        QueryError: no object has a class.
    """
    joined, values = create_candidates(database, settings, roles)
    missing = found_missing(database, "label_values", "label", roles.label)
    for name, column in joined.items():
        role = "group" if name == "group" else "slices"
        missing += found_missing(database, values[name], role, column)
    counts = replace(counts, missing=tuple(missing))
    counts = _count(database, counts)
    # Of rows that repeat an object, which one stays must not depend on their order.
    database.execute(
        """
        CREATE TABLE labelled AS SELECT * EXCLUDE (value) FROM candidates_of_label
        WHERE class IS NOT NULL AND object_id != '' AND object_id NOT IN (SELECT object_id FROM ambiguous)
        QUALIFY row_number() OVER (PARTITION BY object_id ORDER BY title, artist, link) = 1
    """
        if counts.repeated
        else """
        CREATE VIEW labelled AS SELECT * EXCLUDE (value) FROM candidates_of_label
        WHERE class IS NOT NULL AND object_id != ''
    """
    )
    if not scalar(database, "SELECT count(*) FROM labelled"):
        raise QueryError(_no_label(database, settings, roles, counts))
    return counts


def create_candidates(
    database: duckdb.DuckDBPyConnection, settings: Settings, roles: Roles
) -> tuple[dict[str, str], dict[str, str]]:
    """Creates `candidates_of_label`: a row per object, with the `value` of its label and its `class`, NULL for none.

    Returns:
        The columns that slices and group are read from, and the tables of their values, both by name.
    """
    load_label_map(database, settings)
    create_label_values(database, settings, roles.label)
    columns = {name.lower(): name for name in column_names(database, "objects")}
    # A value is cleaned and judged once, not for each object that has it.
    joined = dict(roles.slices) | ({"group": roles.group} if roles.group else {})
    values = {name: f"values_{place}" for place, name in enumerate(joined)}
    for name, column in joined.items():
        create_values(database, values[name], column, settings)
    if roles.group:
        unify_capitals(database, values["group"])
    create_given(database, settings, roles.split)
    tables = {"label_values": roles.label, **{table: joined[name] for name, table in values.items()}}
    tables |= {"given_values": roles.split} if roles.split else {}
    joins = [f"LEFT JOIN {table} ON {table}.spelled = objects.{identifier(name)}" for table, name in tables.items()]
    texts = {ours: _text(columns.get(theirs)) for ours, theirs in LABELLED_COLUMNS.items()}
    texts["link"] = f"trim(objects.{identifier(columns['link_resource'])})" if "link_resource" in columns else "NULL"
    texts["rights"] = _rights(columns, texts["rights"])
    if isinstance(settings, Resolved) and settings.collection:
        texts |= _of_collection(settings.collection, texts, own=f"objects.{identifier(columns['object_id'])}")
    texts["given"] = "given_values.side" if roles.split else "NULL"
    texts |= {f"{SLICE_PREFIX}{name}": f"{values[name]}.value" for name, _ in roles.slices}
    selected = ", ".join(f"coalesce({sql}, '') AS {identifier(name)}" for name, sql in texts.items())
    own = f"clean(objects.{identifier(columns['object_id'])})"
    group = f"coalesce({values['group']}.value, {own})" if roles.group else own
    database.execute(f"""
        CREATE TABLE candidates_of_label AS
        SELECT {own} AS object_id, label_values.value, label_values.class, {group} AS "group", {selected}
        FROM objects {" ".join(joins)}
    """)
    corrections.load(database, settings)
    corrections.give_first_labels(database)
    return joined, values


def _count(database: duckdb.DuckDBPyConnection, counts: Counts) -> Counts:
    no_id, no_label, unmapped, distinct = row(
        database,
        """
        SELECT count(*) FILTER (object_id IS NULL OR object_id = ''),
            count(*) FILTER (object_id != '' AND value IS NULL),
            count(*) FILTER (object_id != '' AND value IS NOT NULL AND class IS NULL),
            count(DISTINCT object_id) FILTER (object_id != '' AND class IS NOT NULL)
        FROM candidates_of_label
    """,
    )
    repeated = counts.matching - no_id - no_label - unmapped - distinct
    ambiguous = 0
    if repeated:
        database.execute("""
            CREATE TABLE ambiguous AS SELECT object_id FROM candidates_of_label
            WHERE class IS NOT NULL AND object_id != '' GROUP BY object_id HAVING count(DISTINCT class) > 1
        """)
        ambiguous = scalar(database, "SELECT count(*) FROM ambiguous")
    found = {"no_id": no_id, "no_label": no_label, "unmapped": unmapped, "repeated": repeated, "ambiguous": ambiguous}
    return replace(counts, **found)


def _text(column: str | None) -> str:
    return f"clean(objects.{identifier(column)})" if column else "NULL"


def _of_collection(collection: Collection, texts: Mapping[str, str], own: str) -> dict[str, str]:
    """Licence, credit and link that the collection states for all its objects, for those without their own."""
    stated = {"rights": literal(collection.license), "credit": literal(collection.credit)}
    if collection.link:
        stated["link"] = f"replace({literal(collection.link)}, '{{}}', clean({own}))"
    return {name: f"coalesce(nullif({texts[name]}, ''), {sql})" for name, sql in stated.items()}


def _rights(columns: dict[str, str], rights: str) -> str:
    if "is_public_domain" not in columns:
        return rights
    public = f"lower(objects.{identifier(columns['is_public_domain'])}) IN ('true', '1')"
    return f"coalesce({rights}, CASE WHEN {public} THEN 'Public domain' END)"


def _nothing(total: int, settings: Settings) -> str:
    if settings.where.strip():
        return f"where={settings.where}: none of {total:,} objects matches; loosen the condition"
    return f"source={settings.source}: there is no object in {settings.table or 'it'}"


def _no_label(database: duckdb.DuckDBPyConnection, settings: Settings, roles: Roles, counts: Counts) -> str:
    if counts.unmapped:
        value = scalar(database, "SELECT min(value) FROM candidates_of_label WHERE value IS NOT NULL")
        return f"label_map={settings.label_map}: names no value of {roles.label}, such as {value!r}; correct the values"
    spelled = ", ".join(item.value for item in counts.missing if item.role == "label")
    why = f" ({spelled} count as none; missing_values says what does)" if spelled else ""
    return (
        f"label={roles.label}: none of {counts.matching:,} objects has a value there{why}; take another label "
        "(python pipeline.py attributes shows what could be learned)"
    )
