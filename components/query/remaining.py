"""The objects to suggest labels for: those without one, or all; the query step writes them as it writes the others.

Every object has one row, its first image. `label` is the class that the collection gives it, empty where there is none;
`label_index` is -1. Nothing is learned from them, so `split` says test.
"""

import json
from dataclasses import asdict, dataclass

import duckdb

from components.artifacts import objects
from components.query.collection import create_candidates, find_roles, load_objects
from components.query.database import literal, scalar
from components.query.inside import place_images
from components.query.pictures_of import join_pictures
from components.query.settings import UNLABELLED, QueryError, Settings
from components.query.source import Source
from components.shared.report import Report, bars

NO_CLASS = -1


@dataclass(frozen=True)
class Remaining:
    """What was taken.

    Attributes:
        label: the column of the label; `take`: which objects were asked for.
        shards: names of the shards that have objects.
        taken: objects with an image; `without_picture`: those without; `others`: objects that were not asked for.
    """

    label: str
    take: str
    shards: tuple[str, ...]
    taken: int
    without_picture: int
    others: int

    def metadata(self) -> dict[str, object]:
        """What the artifact `objects` carries."""
        numbers = {"pictures": self.taken, "without_picture": self.without_picture, "others": self.others}
        return {"take": self.take, "shards": len(self.shards), **numbers}

    def __str__(self) -> str:
        kind = f"without a value in {self.label}" if self.take == UNLABELLED else "in all"
        without = f"; {self.without_picture:,} more have no picture" if self.without_picture else ""
        return f"{self.taken:,} objects {kind}, in {len(self.shards)} shards{without}"


def select(
    settings: Settings, source: Source, database: duckdb.DuckDBPyConnection, paths: tuple[str, str, str], uri: str
) -> Remaining:
    """Writes objects.parquet, an empty label file and a profile to `paths`; see selection.select.

    Raises:
        QueryError: a parameter cannot be followed, or no object is left.
    """
    objects_path, labels_path, profile_path = paths
    counts = load_objects(database, source, settings, (objects_path,))
    roles = find_roles(database, source, settings, counts)
    create_candidates(database, settings, roles)
    wanted = "value IS NULL AND class IS NULL" if settings.take == UNLABELLED else "true"
    database.execute(f"""
        CREATE TABLE labelled AS
        SELECT * EXCLUDE (value, class), coalesce(class, '') AS class FROM candidates_of_label
        WHERE object_id != '' AND {wanted}
        QUALIFY row_number() OVER (PARTITION BY object_id ORDER BY class DESC, title, artist, link) = 1
    """)
    found = scalar(database, "SELECT count(*) FROM labelled")
    if not found:
        raise QueryError(
            f"all {counts.matching:,} objects have a value in {roles.label}; take=all suggests for them too"
        )
    source.load_pictures(database)
    without = join_pictures(database, settings, roles)
    database.execute("""
        CREATE TABLE chosen AS SELECT * FROM candidates
        QUALIFY row_number() OVER (PARTITION BY object_id ORDER BY position) = 1
    """)
    inside = place_images(database, source, f"{uri or objects_path}.images")
    _write(database, settings, inside, objects_path)
    objects.write_labels(labels_path, [])
    rows = database.execute("SELECT DISTINCT shard FROM read_parquet(?) ORDER BY shard", [objects_path]).fetchall()
    shards = tuple(objects.shard_name(index, settings.shards) for (index,) in rows)
    taken = scalar(database, "SELECT count(*) FROM chosen")
    remaining = Remaining(roles.label, settings.take, shards, taken, without, counts.matching - found)
    _write_profile(remaining, profile_path)
    return remaining


def _write(database: duckdb.DuckDBPyConnection, settings: Settings, inside: str, path: str) -> None:
    parameters = {name: value for name, value in asdict(settings).items() if name != "collection"}
    collection = getattr(settings, "collection", None)
    if collection:
        parameters["collection"] = {"rate": collection.rate}
    if inside:
        parameters["inside"] = inside
    origin = json.dumps({"parameters": parameters, "funnel": []}, ensure_ascii=False)
    database.execute(f"""
        COPY (
            SELECT key AS object_id, class AS label, CAST({NO_CLASS} AS INTEGER) AS label_index, 'test' AS split,
                CAST(md5_number_lower('shard:' || key) % {settings.shards} AS INTEGER) AS shard,
                coalesce(placed.address, image_uri) AS image_uri, "group", title, artist, rights, credit, link
            FROM chosen LEFT JOIN placed USING (image_uri) ORDER BY shard, object_id
        ) TO {literal(path)} (
            FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false, KV_METADATA {{{objects.SELECTION}: {literal(origin)}}}
        )
    """)


def _write_profile(remaining: Remaining, path: str) -> None:
    report = Report("What labels are suggested for", f"{remaining}.")
    rows = {"taken": remaining.taken, "without a picture": remaining.without_picture, "not asked for": remaining.others}
    report.section("Objects", bars([(name, count, f"{count:,}") for name, count in rows.items()]))
    report.save(path)
