"""How long the query step takes and how much memory it needs: python -m benchmarks.query --rows 10000 1000000

Writes tables of The Met's 43 columns, and runs the whole step (read, label, split, shard, write, profile) on each in a
process of its own, the tables in turn, `--repeats` times. The goal: 1,000,000 rows in under 20 s and 1 GB on 2 cores.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb

from components.shared.sample import COLUMNS

SELECT = """
import resource, sys, time
from components.query.selection import Settings, select
folder, table = sys.argv[1:]
started = time.monotonic()
settings = Settings(source="table", table=table, label="culture", min_images_per_class=10, shards=64)
selection = select(settings, folder + "/objects", folder + "/labels", folder + "/profile")
usage = resource.getrusage(resource.RUSAGE_SELF)
seconds = time.monotonic() - started, usage.ru_utime + usage.ru_stime
print("RESULT", *seconds, usage.ru_maxrss, sum(selection.sides.values()))
"""
# Shapes of real columns: few values, many values, long text, mostly empty. `i` is the row's number.
VALUES = {
    "object_id": "i",
    "object_number": "printf('%d.%d', 1870 + i % 150, i)",
    "culture": "CASE WHEN hash(i) % 3 > 0 THEN printf('Culture %d', (1000 * pow(hash(i, 1) / 1.85e19, 4))::INT) END",
    "artist_display_name": "CASE WHEN hash(i) % 2 = 0 THEN printf('Artist %d', hash(i, 2) % 60000) END",
    "title": "printf('%s with figures, number %d', ['Vase', 'Bowl', 'Landscape'][1 + i % 3], hash(i) % 200000)",
    "period": "CASE WHEN hash(i) % 5 = 0 THEN printf('Period %d', hash(i, 4) % 300) END",
    "department": "printf('Department %d', hash(i, 5) % 19)",
    "classification": "printf('Classification %d', hash(i, 6) % 250)",
    "medium": "printf('Oil on wood, gilded, number %d', hash(i, 7) % 30000)",
    "dimensions": "printf('Overall: %d 3/4 x %d 1/2 in. (%d x %d cm)', hash(i) % 90, i % 90, hash(i) % 230, i % 230)",
    "credit_line": "printf('Gift of the family of patron number %d, 19%02d', hash(i, 9) % 20000, i % 100)",
    "link_resource": "printf('http://www.metmuseum.org/art/collection/search/%d', i)",
    "is_public_domain": "hash(i) % 4 > 0",
    "is_highlight": "hash(i) % 50 = 0",
    "object_begin_date": "hash(i, 10) % 2000",
    "object_end_date": "hash(i, 10) % 2000 + 20",
    "repository": "'Metropolitan Museum of Art, New York, NY'",
}


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--formats", nargs="+", default=["csv", "parquet"], choices=["csv", "parquet"])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tables = [_write_table(folder, rows, kind) for rows in options.rows for kind in options.formats]
        results: dict[Path, list[tuple[float, ...]]] = {table: [] for table in tables}
        for _ in range(options.repeats):
            for table in tables:
                results[table].append(_measure(folder, table))
    print(f"{'table':>18} {'wall s':>8} {'CPU s':>8} {'µs CPU/row':>11} {'peak MB':>8} {'pictures':>9}")
    for table, measured in results.items():
        wall, cpu, memory, pictures = (statistics.median(column) for column in zip(*measured))
        each = 1e6 * cpu / int(table.stem)
        print(f"{table.name:>18} {wall:8.1f} {cpu:8.1f} {each:11.1f} {memory:8.0f} {pictures:9,.0f}")


def _write_table(folder: str, rows: int, kind: str) -> Path:
    path = Path(folder) / f"{rows}.{kind}"
    columns = ", ".join(f"{VALUES.get(name, 'NULL')} AS {name}" for name in COLUMNS)
    address = "printf('http://h/%d.jpg', i) AS original_image_url"
    with duckdb.connect() as database:
        database.execute(f"COPY (SELECT {columns}, {address} FROM range({rows}) r(i)) TO '{path}'")
    return path


def _measure(folder: str, table: Path) -> tuple[float, ...]:
    """Wall seconds, CPU seconds, peak MB, images."""
    command = [sys.executable, "-c", SELECT, folder, str(table)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    wall, cpu, memory, pictures = output.rpartition("RESULT ")[2].split()
    return float(wall), float(cpu), int(memory) / 1024, int(pictures)


if __name__ == "__main__":
    main()
