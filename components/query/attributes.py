"""What could be learned from a collection: for every attribute its values, and the classes that are large enough."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

from components.query.collection import load_objects
from components.query.database import column_names, identifier, open_database, scalar
from components.query.labels import CLEAN
from components.query.pictures import ADDRESS_COLUMNS
from components.query.settings import Settings
from components.query.source import Source, open_source

if TYPE_CHECKING:
    from rich.table import Table

TOP_VALUES = 5
PRINTED_WIDTH = 160
VALUE_WIDTH = 30
# Keys and addresses tell objects apart; they are not what objects have in common.
NOT_ATTRIBUTES = {"object_id", "object_number", "link_resource", "metadata_date", "is_primary", *ADDRESS_COLUMNS}


@dataclass(frozen=True)
class Attribute:
    """One column of the collection.

    Attributes:
        values: Distinct values, empty ones not counted.
        objects: Objects that have a value.
        classes: Values with at least the asked number of pictures.
        covered: Pictures in those classes.
        top: (value, pictures) of the largest values, largest first.
    """

    name: str
    values: int
    objects: int
    classes: int
    covered: int
    top: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Attributes:
    """All attributes of a collection, those from which most can be learned first.

    Attributes:
        objects: Objects that match `where`.
        minimum: Pictures that make a value a class.
        unit: What is counted for a class: `pictures`, or `objects` where the source does not say who has pictures.
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
                ", ".join(_examples(item)[:top]),
            ]
            for item in self.items
        ]


def describe(settings: Settings) -> Attributes:
    """The attributes of the collection that `settings` names, after `where`.

    Raises:
        QueryError: the source cannot be read.
    """
    source = open_source(settings)
    with open_database() as database:
        return source.describe_attributes(settings) or _load_and_describe(database, source, settings)


def show(settings: Settings) -> None:
    """Prints the attributes as a table, and the command that learns the best of them. Raises QueryError."""
    from rich.console import Console

    attributes = describe(settings)
    console = Console()
    if not console.is_terminal:
        console = Console(width=PRINTED_WIDTH)
    console.print(_printed(attributes, console.width))
    if attributes.empty:
        console.print(f"\nEmpty everywhere: {', '.join(attributes.empty)}", highlight=False)
    ignored = [name for name in ("label_split", "label_map") if getattr(settings, name)]
    if ignored:
        verb = "is" if len(ignored) == 1 else "are"
        text = f"\nValues are counted as they stand: {' and '.join(ignored)} {verb} applied by a run, not here."
        console.print(text, highlight=False)
    best = next((item.name for item in attributes.items if item.classes >= 2), None)
    advice = f"Learn one with label=NAME, such as label={best}." if best else "No attribute has two classes that large."
    console.print(f"\n{advice} min_images_per_class={attributes.minimum} sets the size of a class.", highlight=False)


def describe_objects(database: duckdb.DuckDBPyConnection, minimum: int, with_pictures: bool) -> Attributes:
    """The attributes of the table `objects`.

    Args:
        minimum: Pictures that make a value a class.
        with_pictures: Count pictures (of the table `pictures`), not objects.
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
    items = [_attribute(database, name, max(minimum, 1), weight) for name in names]
    return arrange(scalar(database, "SELECT count(*) FROM objects"), minimum, with_pictures, items)


def arrange(objects: int, minimum: int, with_pictures: bool, items: list[Attribute]) -> Attributes:
    """Sorts: what can be learned first, by the number of pictures outside the largest class."""

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


def _load_and_describe(database: duckdb.DuckDBPyConnection, source: Source, settings: Settings) -> Attributes:
    load_objects(database, source, settings)
    if source.pictures_are_complete:
        source.load_pictures(database)
    return describe_objects(database, settings.min_images_per_class, source.pictures_are_complete)


def _add_picture_counts(database: duckdb.DuckDBPyConnection) -> None:
    """Counted once into the table, as joining anew for each of 43 columns takes longer than everything else."""
    database.execute("""
        CREATE TEMP TABLE picture_counts AS SELECT object_id, count(*) AS number FROM pictures GROUP BY object_id;
        ALTER TABLE objects ADD COLUMN number_of_pictures_ INTEGER DEFAULT 0;
        UPDATE objects SET number_of_pictures_ = number FROM picture_counts
            WHERE trim(objects.object_id) = picture_counts.object_id
    """)


def _attribute(database: duckdb.DuckDBPyConnection, name: str, minimum: int, weight: str) -> Attribute:
    column = identifier(name)
    values, objects, classes, covered, top = database.execute(
        f"""
        WITH spelled AS (SELECT {column} AS value, count(*) AS objects, {weight} AS pictures FROM objects GROUP BY 1),
        counted AS (
            SELECT {CLEAN.format("value")} AS value, sum(objects) AS objects, sum(pictures) AS pictures
            FROM spelled GROUP BY 1
        )
        SELECT count(*), sum(objects),
            count(*) FILTER (pictures >= $minimum), sum(pictures) FILTER (pictures >= $minimum),
            max(struct_pack(pictures := pictures, value := value), $top)
        FROM counted WHERE value IS NOT NULL
        """,
        {"minimum": minimum, "top": TOP_VALUES},
    ).fetchone()
    largest = tuple((item["value"], int(item["pictures"])) for item in top or ())
    return Attribute(name, values, int(objects or 0), classes, int(covered or 0), largest)


def _printed(attributes: Attributes, width: int) -> "Table":
    """The table, in lines of at most `width` characters as long as that leaves room for one of the common values."""
    from rich.table import Table

    rows = [[f"{cell:,}" if isinstance(cell, int) else cell for cell in row[:-1]] for row in attributes.rows()]
    headings = attributes.columns
    widths = [max([len(headings[number]), *(len(row[number]) for row in rows)]) for number in range(len(headings) - 1)]
    left = width - sum(widths) - 2 * len(headings)
    table = Table(title=f"What could be learned from {attributes.objects:,} objects", title_justify="left", box=None)
    for number, heading in enumerate(headings):
        is_last = number == len(widths)
        table.add_column(
            heading,
            justify="left" if number == 0 or is_last else "right",
            min_width=None if is_last else widths[number],
            no_wrap=True,
        )
    for row, item in zip(rows, attributes.items):
        examples = _examples(item)
        while len(examples) > 1 and len(", ".join(examples)) > left:
            examples.pop()
        table.add_row(*row, ", ".join(examples))
    return table


def _examples(item: Attribute) -> list[str]:
    return [f"{_short(value)} ({number:,})" for value, number in item.top]


def _short(value: str) -> str:
    return value if len(value) <= VALUE_WIDTH else value[: VALUE_WIDTH - 1] + "…"
