"""Whether the groups leave something to learn from on one side and something to judge by on the other."""

from dataclasses import replace

import duckdb

from components.query.collection import Roles
from components.query.database import scalar
from components.query.settings import Settings


def separate_classes(database: duckdb.DuckDBPyConnection, settings: Settings, roles: Roles) -> Roles:
    """`roles`, with the object as the group where by the default group most classes would stand on one side only.

    That is so where the label is another column about the artist (artist_alpha_sort, artist_display_bio): the whole
    class is one artist's. A group that the user names is left as it is.
    """
    if settings.group or not roles.group:
        return roles
    single, classes = database.execute(
        """
        SELECT count(*) FILTER (groups = 1), count(*) FROM (
            SELECT count(DISTINCT "group") AS groups FROM labelled GROUP BY class HAVING count(*) >= ?
        )
        """,
        [max(settings.min_images_per_class, 2)],
    ).fetchone()
    if 2 * single <= classes:
        return roles
    kind = scalar(database, "SELECT table_type FROM information_schema.tables WHERE table_name = 'labelled'")
    table = "candidates_of_label" if kind == "VIEW" else "labelled"
    database.execute(f'UPDATE {table} SET "group" = object_id')
    note = (
        f"{single} of {classes} classes of {roles.label} belong to one {roles.group} each and would stand on one side "
        f"of the split, so each object is a group of its own; group={roles.group} keeps them together"
    )
    return replace(roles, group="", notes=(*roles.notes, note))
