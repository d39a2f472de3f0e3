"""Whether the groups leave something to learn from in one split and something to judge by in the others."""

from dataclasses import replace

import duckdb

from components.query.collection import Roles
from components.query.database import row, scalar
from components.query.settings import Settings

# A group with so large a share of all images makes the size of a split a matter of one throw.
LARGE_SHARE = 0.1
# ... but not where there are few images anyway.
LEAST_PICTURES = 10


def large_groups(database: duckdb.DuckDBPyConnection, roles: Roles) -> list[str]:
    """A warning for each group of `chosen` that makes up much of all its images."""
    rows = database.execute(
        """
        SELECT "group", count(*) AS size, sum(size) OVER () AS total FROM chosen GROUP BY "group"
        QUALIFY size >= greatest(?, ? * total) ORDER BY size DESC, "group" LIMIT 5
        """,
        [LEAST_PICTURES, LARGE_SHARE],
    ).fetchall()
    column = roles.group or "object_id"
    return [
        f"{size:,} of {int(total):,} pictures share the {column} {group} and are all in one split; if that "
        f"is no one's name, add it to missing_values: missing_values=auto,{group}"
        for group, size, total in rows
    ]


def separate_classes(database: duckdb.DuckDBPyConnection, settings: Settings, roles: Roles) -> Roles:
    """`roles`, with the object as the group where by the default group most classes would be in one split only.

    That is so where the label is another column about the artist (artist_alpha_sort, artist_display_bio): the whole
    class is one artist's. A group that the user names is left as it is.
    """
    if settings.group or not roles.group:
        return roles
    single, classes = row(
        database,
        """
        SELECT count(*) FILTER (groups = 1), count(*) FROM (
            SELECT count(DISTINCT "group") AS groups FROM labelled GROUP BY class HAVING count(*) >= ?
        )
        """,
        [max(settings.min_images_per_class, 2)],
    )
    if 2 * single <= classes:
        return roles
    kind = scalar(database, "SELECT table_type FROM information_schema.tables WHERE table_name = 'labelled'")
    table = "candidates_of_label" if kind == "VIEW" else "labelled"
    database.execute(f'UPDATE {table} SET "group" = object_id')
    note = (
        f"{single} of {classes} classes of {roles.label} belong to one {roles.group} each and would be in one split "
        f"only, so each object is a group of its own; group={roles.group} keeps them together"
    )
    return replace(roles, group="", notes=(*roles.notes, note))
