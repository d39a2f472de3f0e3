"""Tables as people have them: encodings, compressions, types, and files that are no tables."""

import gzip
import zipfile
from pathlib import Path

import duckdb
import pyarrow
import pyarrow.parquet
import pytest

from components.query.settings import QueryError
from components.shared.errors import PipelineError
from tests.helpers.tables import objects, run, write_csv

ROWS = 12


def labels_of(folder: Path, table: object, **settings: object) -> dict[str, str]:
    """Object id -> class."""
    return {row["object_id"]: row["label"] for row in run(folder, table=str(table), **settings)[1]}


EXPECTED = {str(row["object_id"]): row["culture"] for row in objects(ROWS)}


@pytest.mark.parametrize("name", ["x.csv", "list #2.csv", "50% off?.csv", "x.txt", "x.gz", "ä.csv.gz"])
@pytest.mark.parametrize("form", ["utf-8-sig", "utf-16", "gzip"])
def test_the_content_tells_how_a_table_is_written(tmp_path: Path, name: str, form: str) -> None:
    text = Path(write_csv(tmp_path / "plain.csv", objects(ROWS))).read_text()
    data = gzip.compress(text.encode("utf-16")) if form == "gzip" else text.encode(form)
    path = tmp_path / (name if name != "x.gz" else "x.csv.gz")
    path.write_bytes(data)
    assert labels_of(tmp_path, path) == EXPECTED


@pytest.mark.parametrize(
    "name, data, message",
    [
        ("x.csv", b"\xd0\xcf\x11\xe0" + b"\0" * 600, "the workbook is damaged or locked"),
        ("x.xlsx", b"object_id,culture\n", "is no workbook, whatever its name says"),
        ("x.csv", b"<!DOCTYPE html><html></html>", "is a web page"),
        ("x.parquet", b"id,culture\n", "is no Parquet file"),
        ("x.csv", "a,b\n1,2\n".encode("utf-16-le"), "zero bytes"),
        ("x.csv", b"BZh91AY", "cut off or damaged"),
        ("x.csv", b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
        ("x.csv", gzip.compress(b"object_id,culture\n" * 5000)[:-30], "cut off or damaged"),
        ("x.jsonl", b'{"object_id": 1\n{"object_id": 2}\n', "cannot read .*x.jsonl: .*JSON"),
        ("x.csv", b"\n\n", "has no heading"),
        ("x.csv", b"object_id,culture,original_image_url\n1,French,u\n2,French,u,\n", "line 3 has 4 fields"),
    ],
)
def test_what_is_no_table_is_named(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(QueryError, match=message) as caught:
        run(tmp_path, table=str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_damaged_workbooks_and_folders_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "x")
    with pytest.raises(QueryError, match="the workbook is damaged or locked"):
        run(tmp_path, table=str(tmp_path / "x.xlsx"))
    with pytest.raises(QueryError, match="is a folder, and a table is a file; source=folder"):
        run(tmp_path, table=str(tmp_path))


def write_parquet(path: Path, **columns: object) -> str:
    """Writes `columns` beside ids and addresses; returns the path."""
    table = pyarrow.Table.from_pylist(objects(ROWS))
    for name, values in columns.items():
        if name in table.column_names:
            table = table.drop_columns([name])
        table = table.append_column(name, values if isinstance(values, pyarrow.Array) else pyarrow.array(values))
    pyarrow.parquet.write_table(table, path)
    return str(path)


@pytest.mark.parametrize(
    "values, expected",
    [
        (pyarrow.array(["Français".encode(), b"Dutch"] * 6, pyarrow.binary()), ["Dutch", "Français"]),
        (pyarrow.array([["French"], ["Dutch"]] * 6), ["Dutch", "French"]),
        (pyarrow.array([1800.0, 1900.0, float("nan")] * 4), ["1800", "1900"]),
        (pyarrow.array([0.5, 1.0] * 6), ["0.5", "1.0"]),
        (pyarrow.array(["a", "b"] * 6).dictionary_encode(), ["a", "b"]),
        (pyarrow.array([True, False] * 6), ["false", "true"]),
        (pyarrow.array([None, "NaN", "x", "y"] * 3), ["x", "y"]),
    ],
)
def test_every_type_has_its_plain_text(tmp_path: Path, values: pyarrow.Array, expected: list[str]) -> None:
    selection, _ = run(tmp_path, table=write_parquet(tmp_path / "x.parquet", culture=values))
    assert selection.labels == expected


@pytest.mark.parametrize(
    "values, message",
    [
        ([["French", "Dutch"]] * ROWS, r"label=culture: this column holds lists \(VARCHAR\[\]\)"),
        (pyarrow.array([[("a", 1)]] * ROWS, pyarrow.map_(pyarrow.string(), pyarrow.int32())), "holds nested values"),
        (pyarrow.array([b"\xff\xd8\xff"] * ROWS, pyarrow.binary()), "holds bytes that are no UTF-8 text"),
    ],
)
def test_what_has_no_plain_text_is_refused_by_name_and_left_out_elsewhere(tmp_path: Path, values, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        run(tmp_path, table=write_parquet(tmp_path / "x.parquet", culture=values))
    selection, _ = run(tmp_path, table=write_parquet(tmp_path / "x.parquet", other=values))
    assert "note: the column other holds" in str(selection) and "so it is left out" in str(selection)


def test_fields_of_nested_columns_are_columns(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(
        "".join(
            f'{{"id": "{n}", "made": {{"by": "A{n % 2}", "on": "2020-01-0{n}T10:00:00Z"}}, '
            f'"image": {{"web": ["http://h/{n}.jpg", "http://h/{n}b.jpg"]}}, "mixed": {mixed}}}\n'
            for n, mixed in zip(range(1, 7), ["1", '"x"'] * 3)
        )
    )
    columns = "object_id=id,original_image_url=image.web"
    _, rows = run(tmp_path, table=str(tmp_path / "x.jsonl"), label="made.by", columns=columns, slices="made.on,mixed")
    assert {row["object_id"]: row["image_uri"] for row in rows if row["object_id"].startswith("1")} == {
        "1": "http://h/1.jpg",
        "1-1": "http://h/1b.jpg",
    }
    assert {row["label"] for row in rows} == {"A0", "A1"} and {row["meta_mixed"] for row in rows} == {"1", "x"}
    assert rows[0]["meta_made.on"].endswith("T10:00:00Z"), "as it stands in the file"
    _, rows = run(tmp_path, table=str(tmp_path / "x.jsonl"), label="made.on", columns=columns, where="made.by = 'A1'")
    assert len(rows) == 6 and {row["object_id"][0] for row in rows} == {"1", "3", "5"}


def test_ids_meet_whatever_their_types(tmp_path: Path) -> None:
    for ids in ([float(n) for n in range(1, ROWS + 1)], [f"{n}.0" for n in range(1, ROWS + 1)]):
        table = write_parquet(tmp_path / "objects.parquet", object_id=ids)
        rows = [{"object_id": n, "original_image_url": f"http://h/{n}.jpg"} for n in range(1, ROWS + 1)]
        _, found = run(tmp_path, table=table, images_table=write_csv(tmp_path / "images.csv", rows))
        assert {row["object_id"]: row["image_uri"] for row in found}["7"] == "http://h/7.jpg"
    other = write_csv(tmp_path / "images.csv", [{"object_id": f"A{n}", "original_image_url": "x"} for n in range(3)])
    with pytest.raises(QueryError, match="such as 1, 10, 11.* such as A0, A1, A2"):
        run(tmp_path, table=table, images_table=other)


def test_a_cell_may_hold_several_addresses(tmp_path: Path) -> None:
    cells = ["a.jpg|b.jpg", "http://h/2.jpg; http://h/1.jpg", "http://h/3.jpg http://h/4.jpg"]
    cells += [
        " x y.jpg\n",
        "a,b;c.jpg",
        '["6.jpg", "http:\\/\\/h\\/7.jpg"]',
        "['8.jpg', '9.jpg']",
        "10.JPG; 11.tif, 12.png",
    ]
    cells += ["http://h/a.jpg;session=1", "[untitled].jpg"]
    rows = [row | {"original_image_url": cell} for row, cell in zip(objects(10), cells)]
    _, found = run(tmp_path, table=write_csv(tmp_path / "x.csv", rows), image_base="https://m.test/get?file=")
    assert {row["object_id"]: row["image_uri"] for row in found} == {
        "1": "https://m.test/get?file=a.jpg",
        "1-1": "https://m.test/get?file=b.jpg",
        "2": "http://h/2.jpg",
        "2-1": "http://h/1.jpg",
        "3": "http://h/3.jpg",
        "3-1": "http://h/4.jpg",
        "4": "https://m.test/get?file=x y.jpg",
        "5": "https://m.test/get?file=a,b;c.jpg",
        "6": "https://m.test/get?file=6.jpg",
        "6-1": "http://h/7.jpg",
        "7": "https://m.test/get?file=8.jpg",
        "7-1": "https://m.test/get?file=9.jpg",
        "8": "https://m.test/get?file=10.JPG",
        "8-1": "https://m.test/get?file=11.tif",
        "8-2": "https://m.test/get?file=12.png",
        "9": "http://h/a.jpg;session=1",
        "10": "https://m.test/get?file=[untitled].jpg",
    }


def test_addresses_of_windows_and_without_a_scheme(tmp_path: Path) -> None:
    cells = [r"photos\1.jpg", "//m.test/2.jpg", "./fig 3.jpg", "\ufeffhttp://h/4.jpg"]
    rows = [row | {"original_image_url": cell} for row, cell in zip(objects(4), cells)]
    _, found = run(tmp_path, table=write_csv(tmp_path / "x.csv", rows))
    addresses = [f"{tmp_path}/photos/1.jpg", "https://m.test/2.jpg", f"{tmp_path}/fig 3.jpg", "http://h/4.jpg"]
    assert [row["image_uri"] for row in sorted(found, key=lambda row: row["object_id"])] == addresses
    rows = [row | {"original_image_url": rf"C:\photos\{row['object_id']}.jpg"} for row in objects(4)]
    with pytest.raises(QueryError, match=r"files of a Windows machine, such as C:\\photos\\1.jpg"):
        run(tmp_path, table=write_csv(tmp_path / "x.csv", rows))


def test_columns_may_serve_twice_and_may_not_be_named_twice(tmp_path: Path) -> None:
    rows = [{"id": row["object_id"], "kind": row["culture"], "url": row["original_image_url"]} for row in objects(ROWS)]
    table = write_csv(tmp_path / "x.csv", rows)
    _, found = run(tmp_path, table=table, columns="object_id=id,title=id,original_image_url=url", label="kind")
    assert all(row["title"] == row["object_id"] for row in found)
    with pytest.raises(PipelineError, match="object_id is named twice"):
        run(tmp_path, table=table, columns="object_id=id,Object_ID=kind,original_image_url=url")


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_label_map_may_be_parted_as_its_program_does(tmp_path: Path, mark: str) -> None:
    rows = (("value", "class"), ("French", "F"), ("Japan", "J|K"))
    text = "".join(f"{value}{mark}{name}\r\n" for value, name in rows)
    (tmp_path / "map.csv").write_bytes(text.encode("utf-16"))
    selection, _ = run(
        tmp_path, table=write_csv(tmp_path / "x.csv", objects(ROWS)), label_map=str(tmp_path / "map.csv")
    )
    assert selection.labels == ["F", "J|K"]


def test_where_opens_no_file(tmp_path: Path) -> None:
    """Even where the grammar let something through: DuckDB reads nothing but the table."""
    from components.query.collection import load_objects
    from components.query.database import open_database
    from components.query.selection import Settings
    from components.query.source import open_source

    (tmp_path / "secret.csv").write_text("a\nsecret\n")
    settings = Settings(source="table", table=write_csv(tmp_path / "x.csv", objects(ROWS)))
    with open_database() as database:
        load_objects(database, open_source(settings), settings)
        with pytest.raises(duckdb.PermissionException):
            database.execute(f"SELECT * FROM '{tmp_path}/secret.csv'")
        with pytest.raises(duckdb.Error):
            database.execute("SET enable_external_access = true")
