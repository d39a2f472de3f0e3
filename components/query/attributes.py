"""What could be learned from a collection: its attributes, asked of the source or counted here, and printed."""

from typing import TYPE_CHECKING

import duckdb

from components.query.attribute_counts import Attributes, describe_objects
from components.query.collection import load_objects
from components.query.collections import resolve
from components.query.database import open_database
from components.query.settings import Settings
from components.query.source import Source, open_source

if TYPE_CHECKING:
    from rich.table import Table

PRINTED_WIDTH = 160


def describe(settings: Settings) -> Attributes:
    """The attributes of the collection that `settings` names, after `where`.

    Raises:
        QueryError: the source cannot be read.
    """
    settings = resolve(settings)
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


def _load_and_describe(database: duckdb.DuckDBPyConnection, source: Source, settings: Settings) -> Attributes:
    load_objects(database, source, settings)
    for note in getattr(source, "notes", ()):
        print(f"note: {note}")
    if source.pictures_are_complete:
        source.load_pictures(database)
    return describe_objects(database, settings, source.pictures_are_complete)


def _printed(attributes: Attributes, width: int) -> "Table":
    """The table, in lines of at most `width` characters as long as that leaves room for one of the common values."""
    from rich.table import Table

    rows = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row[:-1]] for row in attributes.rows()]
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
        examples = item.examples()
        while len(examples) > 1 and len(", ".join(examples)) > left:
            examples.pop()
        table.add_row(*row, ", ".join(examples))
    return table
