"""The attributes of a collection: for each one its values, and the classes that are large enough."""

from dataclasses import dataclass

import duckdb

from components.query.columns import ADDRESS_COLUMNS
from components.query.database import column_names, identifier, row, scalar
from components.query.missing import missing_sql
from components.query.settings import Settings

TOP_VALUES = 5
VALUE_WIDTH = 30
# Keys and addresses tell objects apart; they are not what objects have in common.
NOT_ATTRIBUTES = {"object_id", "object_number", "link_resource", "metadata_date", "is_primary", *ADDRESS_COLUMNS}


@dataclass(frozen=True)
class Attribute:
    """One column of the collection.

    Attributes:
        values: Distinct values, empty ones not counted.
        objects: Objects that have a value.
        classes: Values with at least the asked number of images.
        covered: Images in those classes.
        top: (value, images) of the largest values, largest first.
    """

    name: str
    values: int
    objects: int
    classes: int
    covered: int
    top: tuple[tuple[str, int], ...]

    def examples(self) -> list[str]:
        """The largest values, long ones cut, each with its images in brackets."""
        return [f"{_short(value)} ({number:,})" for value, number in self.top]


@dataclass(frozen=True)
class Attributes:
    """All attributes of a collection, those from which most can be learned first.

    Attributes:
        objects: Objects that match `where`.
        minimum: Images that make a value a class.
        unit: What is counted for a class: `pictures`, or `objects` where the source does not say who has images.
        items: Attributes with at least one value.
        empty: Names of columns without any value.
    """

    objects: int
    minimum: int
    unit: str
    items: tuple[Attribute, ...]
    empty: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """Headings of `rows`."""
        classes = f"classes of ≥ {self.minimum}"
        return ["attribute", "values", "objects", "of all", classes, f"their {self.unit}", "most common"]

    def rows(self, top: int = TOP_VALUES) -> list[list[object]]:
        """A row an attribute, under `columns`, with its `top` most common values."""
        return [
            [
                item.name,
                item.values,
                item.objects,
                f"{100 * item.objects / self.objects:.0f}\u00a0%",
                item.classes,
                item.covered,
                ", ".join(item.examples()[:top]),
            ]
            for item in self.items
        ]


def describe_objects(database: duckdb.DuckDBPyConnection, settings: Settings, with_pictures: bool) -> Attributes:
    """The attributes of the table `objects`.

    Args:
        settings: Says how many images make a value a class, and what counts as no value.
        with_pictures: Count images (of the table `pictures`), not objects.
    """
    weight = "count(*)"
    if with_pictures:
        _add_picture_counts(database)
        weight = "CAST(sum(number_of_pictures_) AS BIGINT)"
    names = [
        name
        for name in column_names(database, "objects")
        if name.lower() not in NOT_ATTRIBUTES | {"number_of_pictures_"}
    ]
    items = [_attribute(database, name, settings, weight) for name in names]
    objects = scalar(database, "SELECT count(*) FROM objects")
    return arrange(objects, settings.min_images_per_class, with_pictures, items)


def arrange(objects: int, minimum: int, with_pictures: bool, items: list[Attribute]) -> Attributes:
    """Sorts: what can be learned first, by the number of images outside the largest class."""

    def rank(item: Attribute) -> tuple[bool, int, str]:
        is_learnable = item.classes >= 2
        return not is_learnable, item.top[0][1] - item.covered if is_learnable else 0, item.name

    ranked = sorted(items, key=rank)
    return Attributes(
        objects=objects,
        minimum=max(minimum, 1),
        unit="pictures" if with_pictures else "objects",
        items=tuple(item for item in ranked if item.objects),
        empty=tuple(item.name for item in items if not item.objects),
    )


def _add_picture_counts(database: duckdb.DuckDBPyConnection) -> None:
    """Counted once into the table, as joining anew for each of 43 columns takes longer than everything else."""
    database.execute("""
        CREATE TEMP TABLE picture_counts AS SELECT object_id, count(*) AS number FROM pictures GROUP BY object_id;
        ALTER TABLE objects ADD COLUMN number_of_pictures_ INTEGER DEFAULT 0;
        UPDATE objects SET number_of_pictures_ = number FROM picture_counts
            WHERE clean(objects.object_id) = picture_counts.object_id
    """)


def _attribute(database: duckdb.DuckDBPyConnection, name: str, settings: Settings, weight: str) -> Attribute:
    column = identifier(name)
    values, objects, classes, covered, top = row(
        database,
        f"""
        WITH spelled AS (SELECT {column} AS value, count(*) AS objects, {weight} AS pictures FROM objects GROUP BY 1),
        counted AS (
            SELECT clean(value) AS value, sum(objects) AS objects, sum(pictures) AS pictures FROM spelled GROUP BY 1
        )
        SELECT count(*), sum(objects),
            count(*) FILTER (pictures >= $minimum), sum(pictures) FILTER (pictures >= $minimum),
            max(struct_pack(pictures := pictures, value := value), $top)
        FROM counted WHERE value IS NOT NULL AND NOT {missing_sql("value", settings)}
        """,
        {"minimum": max(settings.min_images_per_class, 1), "top": TOP_VALUES},
    )
    largest = tuple((item["value"], int(item["pictures"])) for item in top or ())
    return Attribute(name, values, int(objects or 0), classes, int(covered or 0), largest)


def _short(value: str) -> str:
    return value if len(value) <= VALUE_WIDTH else value[: VALUE_WIDTH - 1] + "…"
