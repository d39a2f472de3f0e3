"""source=sample: the museum that the project draws itself."""

import duckdb
import pyarrow

from components.query.pictures import create_pictures
from components.query.settings import Settings
from components.shared import sample


def open_source(settings: Settings) -> "SampleSource":
    """The sample museum of the run's seed."""
    return SampleSource(settings.seed)


class SampleSource:
    """About 600 drawn objects in the columns of The Met."""

    label = "culture"
    applies_where = False
    total = None
    pictures_are_complete = True

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def state(self) -> str:
        """Drawn by the program, whose image stands in the cache key anyway."""
        return ""

    def load(self, database: duckdb.DuckDBPyConnection) -> None:
        """Creates `raw` with The Met's 43 columns and the images' addresses."""
        rows = [
            {**row, "original_image_url": f"sample:{self.seed}/{row['object_id']}"} for row in sample.rows(self.seed)
        ]
        table = pyarrow.Table.from_pylist(rows)
        database.register("sample_rows", table)
        database.execute("CREATE TABLE raw AS SELECT * FROM sample_rows")

    def load_pictures(self, database: duckdb.DuckDBPyConnection) -> None:
        """One image an object."""
        create_pictures(database, "objects", base="")

    def describe_attributes(self, settings: Settings) -> None:
        """Loaded in no time."""
