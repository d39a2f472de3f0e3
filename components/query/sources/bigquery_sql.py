"""The SQL for BigQuery. Names are quoted, values are query parameters, `where` has been parsed and written anew."""

from collections.abc import Iterable

from components.query.attribute_counts import Attribute
from components.shared.values import clean_sql


def quoted(name: str) -> str:
    """A name in backticks. Names come from the table's schema, where BigQuery allows no backtick."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def matching(table: str, inside: dict[str, str], columns: Iterable[str], condition: str) -> str:
    """Objects that match `condition`; `inside` is {our name: the table's name} of all columns it or we need."""
    selected = ", ".join(f"CAST({quoted(name)} AS STRING) AS {quoted(name)}" for name in columns)
    return f"SELECT {selected} FROM ({renamed(table, inside)}) AS renamed WHERE ({condition})"


def renamed(table: str, columns: dict[str, str]) -> str:
    """`columns`, {our name: the table's name}, of `table` under our names."""
    selected = ", ".join(f"{quoted(theirs)} AS {quoted(ours)}" for ours, theirs in columns.items())
    return f"SELECT {selected} FROM {quoted(table)}"


def objects_with_addresses(matching_objects: str, images: str, addresses: list[str]) -> str:
    """A row per object, with the list `addresses`: '' for an image that has none; `images` is `renamed`, or empty."""
    address = f"COALESCE({', '.join(f'NULLIF(TRIM({quoted(name)}), {_EMPTY})' for name in addresses)}, {_EMPTY})"
    if not images:
        return f"SELECT matching.*, [{address}] AS addresses FROM ({matching_objects}) AS matching"
    return f"""
        WITH matching AS ({matching_objects}),
        pictures AS (
            SELECT CAST(object_id AS STRING) AS object_id, ARRAY_AGG({address}) AS addresses
            FROM ({images}) AS images GROUP BY object_id
        )
        SELECT matching.*, pictures.addresses
        FROM matching LEFT JOIN pictures ON matching.object_id = pictures.object_id
    """


def attributes(matching_objects: str, images: str, columns: list[str]) -> str:
    """For each column its @top commonest values, each with the column's totals, and with @minimum as a class's size.

    What matches the regular expression @none, or is among @words, counts as no value.
    """
    pictures = "1"
    join = ""
    if images:
        pictures = "COALESCE(pictures.number, 0)"
        join = f"""LEFT JOIN (
            SELECT CAST(object_id AS STRING) AS object_id, COUNT(*) AS number FROM ({images}) AS images
            GROUP BY object_id) AS pictures ON matching.object_id = pictures.object_id"""
    counted = " UNION ALL ".join(
        f"SELECT {number} AS attribute, {clean_sql(quoted(name), 'bigquery')} AS value, COUNT(*) AS objects, "
        "SUM(picture_count) AS pictures "
        "FROM pictured GROUP BY value"
        for number, name in enumerate(columns)
    )
    return f"""
        WITH matching AS ({matching_objects}),
        pictured AS (SELECT matching.*, {pictures} AS picture_count FROM matching {join}),
        counted AS ({counted}),
        ranked AS (
            SELECT attribute, value, pictures,
                COUNT(*) OVER (PARTITION BY attribute) AS number_of_values,
                SUM(objects) OVER (PARTITION BY attribute) AS objects,
                SUM(CASE WHEN pictures >= @minimum THEN 1 ELSE 0 END) OVER (PARTITION BY attribute) AS classes,
                SUM(CASE WHEN pictures >= @minimum THEN pictures ELSE 0 END) OVER (PARTITION BY attribute) AS covered,
                ROW_NUMBER() OVER (PARTITION BY attribute ORDER BY pictures DESC, value) AS place
            FROM counted WHERE value IS NOT NULL
                AND NOT REGEXP_CONTAINS(LOWER(value), @none) AND LOWER(value) NOT IN UNNEST(@words)
        )
        SELECT ranked.*, (SELECT COUNT(*) FROM matching) AS all_objects FROM ranked WHERE place <= @top
        ORDER BY attribute, place
    """


def attributes_of(rows: list[dict], columns: list[str]) -> list[Attribute]:
    """The rows of `attributes` as one Attribute a column."""
    found = []
    for number, name in enumerate(columns):
        own = [row for row in rows if row["attribute"] == number]
        if not own:
            found.append(Attribute(name, 0, 0, 0, 0, ()))
            continue
        first, top = own[0], tuple((row["value"], int(row["pictures"])) for row in own)
        values, objects, classes, covered = (
            int(first[key]) for key in ("number_of_values", "objects", "classes", "covered")
        )
        found.append(Attribute(name, values, objects, classes, covered, top))
    return found


_EMPTY = "''"
