"""The query step: from a source to `objects.parquet`, `labels.txt`, the shards' names and a profile.

Works in DuckDB, table after table: raw → objects (match `where`) → labelled (have a class) → candidates (have a
image) → chosen (in a kept class, within the cap) → splits → objects.parquet.
"""

from collections.abc import Mapping

import duckdb

from components.artifacts import objects
from components.query import corrections, remaining
from components.query.collection import Roles, find_roles, label_objects, load_objects
from components.query.collections import resolve
from components.query.database import identifier, literal, open_database, scalar
from components.query.given_splits import given_sides, separate_leaks
from components.query.groups import large_groups, separate_classes
from components.query.inside import place_images
from components.query.labels import choose_classes
from components.query.missing import told
from components.query.origin import describe
from components.query.pictures_of import join_pictures
from components.query.profile import write_profile
from components.query.remaining import Remaining
from components.query.settings import LABELLED, QueryError, Settings
from components.query.source import AskingSource, KeepingSource, open_source
from components.query.splits import asked_shares, assign_splits
from components.query.summary import Selection

__all__ = ["Settings", "select"]


def select(
    settings: Settings, objects_path: str, labels_path: str, profile_path: str, objects_uri: str = ""
) -> Selection | Remaining:
    """Selects, labels, splits and shards, or takes what is to be labelled; writes the three files.

    Args:
        objects_uri: Where the parquet file ends up: beside it is kept what a repeated step need not ask again; empty
            to keep nothing.

    Raises:
        QueryError: a parameter cannot be followed, or nothing is left to learn; the message says what to do.
    """
    settings = resolve(settings)
    source = open_source(settings)
    if objects_uri and isinstance(source, KeepingSource):
        source.kept_at = f"{objects_uri}.answers"
    with open_database() as database:
        if settings.take != LABELLED:
            return remaining.select(settings, source, database, (objects_path, labels_path, profile_path), objects_uri)
        counts = load_objects(database, source, settings, (objects_path,))
        roles = find_roles(database, source, settings, counts)
        counts = label_objects(database, settings, roles, counts)
        roles = separate_classes(database, settings, roles)
        source.load_pictures(database)
        not_asked, failed = (source.not_asked, source.failed) if isinstance(source, AskingSource) else (0, {})
        without_picture = join_pictures(database, settings, roles)
        classes = choose_classes(database, settings, roles.label)
        capped = _choose(database, settings)
        inside = place_images(database, source, f"{objects_uri or objects_path}.images")
        given, leaks = _given(database, settings, roles)
        reassignments = assign_splits(database, settings, given)
        told_by_source = getattr(source, "notes", ())
        notes = (*roles.notes, *leaks, *told(counts.missing), *told_by_source, *large_groups(database, roles))
        unanswered = {"were not asked about": not_asked, "got no answer": len(failed)}
        origin = describe(settings, roles, counts, without_picture, unanswered, classes, capped, inside)
        corrected = corrections.apply(database, settings)
        _write_objects(database, settings, roles, origin, objects_path)
        per_split = _per_split(database, objects_path)
        selection = Selection(
            label=roles.label,
            group=roles.group,
            shards=_shards(database, settings, objects_path),
            classes=tuple(classes),
            per_split=per_split,
            counts=counts,
            without_picture=without_picture - not_asked - len(failed),
            capped=capped,
            reassignments=tuple(reassignments),
            not_asked=not_asked,
            failed=failed,
            asked=_shares_of(per_split) if given else asked_shares(settings),
            notes=notes,
            corrected=corrected,
        )
        write_profile(database, source, settings, selection, profile_path)
    objects.write_labels(labels_path, selection.labels)
    return selection


def _choose(database: duckdb.DuckDBPyConnection, settings: Settings) -> int:
    """Creates `chosen`: the candidates of kept classes, each class capped. Returns the number beyond the cap.

    First one image of each object, then further ones. Which is drawn by hash, so that a cap leaves a fair sample and
    a larger collection does not draw anew.
    """
    if not settings.max_images_per_class:
        database.execute("CREATE VIEW chosen AS SELECT * FROM candidates JOIN classes USING (class)")
        return 0
    database.execute(f"""
        CREATE TABLE chosen AS SELECT * FROM candidates JOIN classes USING (class)
        QUALIFY row_number() OVER (
            PARTITION BY class ORDER BY position > 0, md5('{settings.seed}:cap:' || key)
        ) <= {settings.max_images_per_class}
    """)
    kept = scalar(database, "SELECT count(*) FROM candidates WHERE class IN (SELECT class FROM classes)")
    return kept - scalar(database, "SELECT count(*) FROM chosen")


def _given(database: duckdb.DuckDBPyConnection, settings: Settings, roles: Roles) -> tuple[frozenset[str], list[str]]:
    """The splits that the collection gives, and what is to be said of them."""
    given = frozenset(given_sides(database))
    if not given:
        return given, []
    if settings.folds:
        raise QueryError(
            f"folds={settings.folds}: the column {roles.split} says already what is tested; split_given=none ignores it"
        )
    leaks = separate_leaks(database, settings, roles.group)
    missing = [side for side in objects.SPLITS[1:] if side not in given]
    rest = f"; {' and '.join(missing)} are split off what else there is" if missing else ""
    return given, [f"the column {roles.split} gives {', '.join(sorted(given))}{rest}", *leaks]


def _shares_of(per_split: Mapping[tuple[str, str], int]) -> dict[str, float]:
    """The share of each side in all that is selected."""
    total = sum(per_split.values())
    return {
        each: sum(count for (_, split), count in per_split.items() if split == each) / total for each in objects.SPLITS
    }


def _write_objects(
    database: duckdb.DuckDBPyConnection, settings: Settings, roles: Roles, origin: str, path: str
) -> None:
    slices = "".join(f", {identifier(objects.SLICE_PREFIX + name)}" for name, _ in roles.slices)
    database.execute(f"""
        COPY (
            SELECT key AS object_id, class AS label, label_index, split,
                CAST(md5_number_lower('shard:' || key) % {settings.shards} AS INTEGER) AS shard,
                image_uri, "group", title, artist, rights, credit, link{slices}
            FROM (
                SELECT corrected.* REPLACE (coalesce(placed.address, image_uri) AS image_uri),
                    CASE WHEN given IN ('validation', 'test') THEN given ELSE splits.split END AS split
                FROM corrected LEFT JOIN splits USING ("group") LEFT JOIN placed USING (image_uri)
            ) ORDER BY shard, object_id
        ) TO {literal(path)} (
            FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false, KV_METADATA {{{objects.SELECTION}: {literal(origin)}}}
        )
    """)


def _shards(database: duckdb.DuckDBPyConnection, settings: Settings, path: str) -> tuple[str, ...]:
    rows = database.execute("SELECT DISTINCT shard FROM read_parquet(?) ORDER BY shard", [path]).fetchall()
    return tuple(objects.shard_name(index, settings.shards) for (index,) in rows)


def _per_split(database: duckdb.DuckDBPyConnection, path: str) -> dict[tuple[str, str], int]:
    rows = database.execute("SELECT label, split, count(*) FROM read_parquet(?) GROUP BY ALL", [path]).fetchall()
    return {(label, split): number for label, split, number in rows}
