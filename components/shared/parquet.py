"""Parquet files read in memory that does not grow with them."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq


def batches(
    file: pq.ParquetFile, rows: int, columns: list[str] | None = None, groups: list[int] | None = None
) -> Iterator[pa.RecordBatch]:
    """All rows of `file`, at most `rows` at a time, of all row groups or of `groups`.

    Each row group is asked for by itself: pyarrow's iterator over several keeps what it has read of the file (measured:
    130 MB more for 100,000 rows of 1 KB), and its threads 40 MB.
    """
    for group in range(file.num_row_groups) if groups is None else groups:
        yield from file.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False)
