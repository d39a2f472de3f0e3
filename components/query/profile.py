"""The profile: what the collection offers, what was taken, and where the rest went."""

import duckdb

from components.query.settings import Settings
from components.query.source import Source
from components.query.splits import SIDES
from components.shared.report import Report, bars, notice, table


def write_profile(
    database: duckdb.DuckDBPyConnection, source: Source, settings: Settings, selection, path: str
) -> None:
    """Writes the HTML report of a `Selection` to `path`."""
    facts = {
        "objects in the source": f"{selection.counts.source:,}",
        "pictures selected": f"{sum(selection.sides.values()):,}",
        "classes": len(selection.labels),
        "shards": len(selection.shards),
    }
    report = Report("What was selected", str(selection) + ".", facts)
    rows = [[name, *(selection.sides.get((name, side), 0) for side in SIDES)] for name in selection.labels]
    report.section("Classes", table(["class", *SIDES], rows))
    report.save(path)
