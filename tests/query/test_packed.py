"""Tables in archives, workbooks and several files; two tables that were not made for us; nested JSON."""

import bz2
import io
import json
import lzma
import tarfile
import zipfile
from pathlib import Path

import pytest

from components.query.json_file import count_records
from components.query.settings import QueryError
from components.shared.parameters import ParameterError
from tests.helpers.tables import objects, run, write_csv

ROWS = objects(12)
EXPECTED = {str(row["object_id"]): row["culture"] for row in ROWS}


def labels(folder: Path, table: object, **settings: object) -> dict[str, str]:
    """Object id -> class."""
    return {row["object_id"]: row["label"] for row in run(folder, table=str(table), **settings)[1]}


@pytest.fixture
def text(tmp_path: Path) -> bytes:
    return Path(write_csv(tmp_path / "plain.csv", ROWS)).read_bytes()


def zipped(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "."), data)
    return path


def tarred(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, f"w:{path.suffix.removeprefix('.').replace('tgz', 'gz').replace('tar', '')}") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def workbook(path: Path, sheets: dict[str, list[list[object]]]) -> Path:
    """A workbook as Excel writes it, with the parts that a reader needs."""
    names = list(sheets)
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'

    def cell(value: object) -> str:
        if isinstance(value, (int, float)):
            return f"<c><v>{value}</v></c>"
        return f'<c t="inlineStr"><is><t>{value}</t></is></c>' if value else "<c/>"

    with zipfile.ZipFile(path, "w") as book:
        listed = "".join(f'<sheet name="{name}" sheetId="{n}" r:id="r{n}"/>' for n, name in enumerate(names, 1))
        schema = "http://schemas.openxmlformats.org/package/2006/relationships"
        root = f'<Relationship Id="r1" Type="{relations}/officeDocument" Target="xl/workbook.xml"/>'
        book.writestr("_rels/.rels", f'<Relationships xmlns="{schema}">{root}</Relationships>')
        book.writestr("xl/workbook.xml", f'<workbook {main} xmlns:r="{relations}"><sheets>{listed}</sheets></workbook>')
        parts = "".join(
            f'<Relationship Id="r{n}" Type="{relations}/worksheet" Target="worksheets/s{n}.xml"/>'
            for n in range(1, len(names) + 1)
        )
        book.writestr("xl/_rels/workbook.xml.rels", f'<Relationships xmlns="{schema}">{parts}</Relationships>')
        for n, name in enumerate(names, 1):
            rows = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in sheets[name])
            book.writestr(f"xl/worksheets/s{n}.xml", f"<worksheet {main}><sheetData>{rows}</sheetData></worksheet>")
    return path


SHEET = [list(ROWS[0]), *([row["object_id"], row["culture"], row["original_image_url"]] for row in ROWS)]


def test_what_is_compressed_or_in_an_archive_is_read(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a.csv.bz2").write_bytes(bz2.compress(text))
    (tmp_path / "b.csv.xz").write_bytes(lzma.compress(text))
    zipped(tmp_path / "c.zip", objects__csv=text, readme__txt=b"Read me", __MACOSX=b"")
    tarred(tmp_path / "d.tar.gz", {"dump/objects.csv": text, "dump/LICENSE": b"CC0", "._objects.csv": b"\0"})
    tarred(tmp_path / "e.tar", {"objects.csv.bz2": bz2.compress(text)})
    for name in ("a.csv.bz2", "b.csv.xz", "c.zip", "d.tar.gz", "e.tar", "d.tar.gz/dump/*.csv", "c.zip/objects.csv"):
        assert labels(tmp_path, tmp_path / name) == EXPECTED, name


def test_several_files_are_one_table(tmp_path: Path) -> None:
    for number in range(3):
        part = ROWS[4 * number : 4 * number + 4]
        lines = "".join(json.dumps(row | {"only": "x"} if number else row) + "\n" for row in part)
        (tmp_path / f"o_{number}.jsonl").write_text(lines)
        columns = ["culture", "original_image_url", "object_id"] if number == 1 else list(part[0])
        write_csv(tmp_path / f"o_{number}.csv", [{name: row[name] for name in columns} for row in part])
    parts = {f"deep/o_{n}.jsonl": (tmp_path / f"o_{n}.jsonl").read_bytes() for n in range(3)}
    tarred(tmp_path / "all.tgz", parts)
    for pattern in ("o_*.jsonl", "o_[0-2].csv", "o_?.csv", "all.tgz/deep/o_*.jsonl"):
        assert labels(tmp_path, tmp_path / pattern) == EXPECTED, pattern


def test_a_sheet_of_a_workbook_is_a_table(tmp_path: Path) -> None:
    one = workbook(tmp_path / "one.xlsx", {"Objects": [*SHEET, ["", "", ""]], "Empty": []})
    two = workbook(tmp_path / "two.xlsx", {"Notes": [["a"], ["b"]], "Objects": SHEET})
    assert labels(tmp_path, one) == EXPECTED
    assert labels(tmp_path, f"{two}/Objects") == EXPECTED
    for table, message in (
        (two, "has several sheets; name one, table=.*/Notes; there are Notes, Objects"),
        (f"{two}/Objekte", "there is no such sheet; there are Notes, Objects"),
        (workbook(tmp_path / "none.xlsx", {"Empty": []}), "the workbook is empty"),
        (workbook(tmp_path / "wide.xlsx", {"A": [["id"], [1, "stray"]]}), "to the right of its heading: 'stray'"),
    ):
        with pytest.raises(QueryError, match=message):
            run(tmp_path, table=str(table))


def test_an_archive_that_does_not_tell_what_is_meant_is_refused(tmp_path: Path, text: bytes) -> None:
    two = zipped(tmp_path / "two.zip", a__csv=text, b__csv=text)
    for table, message in (
        (two, "several tables; name one, table=.*two.zip/a.csv.*there are a.csv, b.csv"),
        (f"{two}/c.csv", "no such file in the archive; there are a.csv, b.csv"),
        (zipped(tmp_path / "no.zip", a__jpg=b"x", b__jpg=b"x"), "archive of 2 files, and none of them is a table"),
        (tmp_path / "nothing_*.csv", "no file has such a name"),
        ("https://h/o_*.csv", "a web server does not list its files"),
    ):
        with pytest.raises(QueryError, match=message) as caught:
            run(tmp_path, table=str(table))
        assert "\n" not in str(caught.value)


def nga(folder: Path) -> dict[str, str]:
    """Two tables with the headings of the National Gallery of Art, and the parameters that join them."""
    works = [
        {
            "objectid": n, "title": f"T{n}", "beginyear": 1900, "attribution": "",
            "classification": ("Print", "Drawing")[n % 2],
        }
        for n in range(1, 9)
    ]  # fmt: skip
    images = [
        {
            "uuid": f"u{n}{view}", "iiifurl": f"https://api.nga.gov/iiif/u{n}{view[0]}", "iiifthumburl": "",
            "viewtype": view,
            "sequence": 0, "width": 4000, "height": 3000, "maxpixels": "", "openaccess": int(n != 8),
            "depictstmsobjectid": n,
        }
        for n in range(1, 9) for view in ("primary", "alternate")
    ]  # fmt: skip
    return {
        "table": write_csv(folder / "objects.csv", works),
        "images_table": write_csv(folder / "published_images.csv", images),
        "columns": "objects.object_id=objectid,images.object_id=depictstmsobjectid,images.original_image_url=iiifurl",
        "images_where": "openaccess=1 AND viewtype='primary'",
        "image_base": "{}/full/!{size},{size}/0/default.jpg",
        "label": "classification",
    }


def test_two_tables_that_were_not_made_for_us_are_joined(tmp_path: Path) -> None:
    selection, rows = run(tmp_path, **nga(tmp_path), image_size=128)
    assert {row["object_id"]: row["image_uri"] for row in rows} == {
        str(n): f"https://api.nga.gov/iiif/u{n}p/full/!256,256/0/default.jpg" for n in range(1, 8)
    }
    assert selection.without_picture == 1
    assert "9 of 16 images do not match images_where" in str(selection)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"columns": "images.object_id=depicts"},
            "there is no column depicts in the table of images",
        ),
        ({"columns": "objects.object_id=iiifurl"}, "there is no column iiifurl in the table of objects"),
        ({"columns": "object_id=nowhere"}, "there is no column nowhere"),
        (
            {"images_where": "openacces=1"},
            "images_where=openacces=1: there is no column openacces .did you mean openacc",
        ),
        ({"images_where": "openaccess="}, "images_where=openaccess=: not an SQL condition"),
        ({"images_where": "openaccess=2"}, "images_where=openaccess=2: none of 16 images matches"),
    ],
)
def test_what_is_in_neither_table_is_named(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(QueryError, match=message) as caught:
        run(tmp_path, **nga(tmp_path) | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"columns": "images.object_id=x"}, "there is no table of images"),
        ({"images_where": "a=1"}, "there is no images_table"),
        ({"columns": "objects.a=x,objects.A=y"}, "objects.a is named twice"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(change: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=message):
        run(tmp_path, table="x.csv", **change)


def test_paths_lead_into_nested_json(tmp_path: Path) -> None:
    """Fields, elements of lists, objects in lists, and columns whose rows differ."""
    records = [
        {
            "id": n, "culture": ["French", "Paris"] if n % 2 else ["Dutch"],
            "images": {"web": {"url": f"http://h/{n}.jpg"}, "all": [{"url": f"http://h/{n}{k}.jpg"} for k in "ab"]},
            "mixed": {"deep": {"name": f"m{n % 2}"}} if n > 2 else "none",
        }
        for n in range(1, 9)
    ]  # fmt: skip
    (tmp_path / "x.json").write_text(json.dumps(records, indent=1))
    base = "object_id=id,culture=culture[0],original_image_url="

    def addresses(path: str, **settings: str) -> dict[str, str]:
        _, rows = run(tmp_path, table=str(tmp_path / "x.json"), columns=base + path, **settings)
        assert {row["label"] for row in rows} == {"French", "Dutch"} or settings
        return {row["object_id"]: row["image_uri"] for row in rows}

    assert addresses("images.web.url")["3"] == "http://h/3.jpg"
    assert {key: value for key, value in addresses("images.all.url").items() if key[0] == "3"} == {
        "3": "http://h/3a.jpg", "3-1": "http://h/3b.jpg",
    }  # fmt: skip
    assert addresses("images.all[1].url")["3"] == "http://h/3b.jpg"
    assert set(addresses("images.web.url,kind=mixed.deep.name", label="kind")) == set("345678")
    for path in ("images.web.uri", "images.nowhere[0].url", "images.web[0].url"):
        with pytest.raises(QueryError, match=f"there is no column {path.replace('[', '.').replace(']', '.')}"):
            addresses(path)


@pytest.mark.parametrize(
    "text, records",
    [
        ('{"a": 1}\n{"a": "}{[\\" "}\n\n', 2),
        ('[{"a": [{"b": 1}]}, {"a": []}]', 2),
        ('{"a": {"b": {}}} {"a": "\\\\"}', 2),
        ("", 0),
        ("[]", 0),
    ],
)
def test_records_of_json_are_counted_without_their_reader(tmp_path: Path, text: str, records: int, monkeypatch) -> None:
    (tmp_path / "x.json").write_text(text)
    for block in (1, 2, 3, 1 << 20):
        monkeypatch.setattr("components.query.json_file._BLOCK", block)
        assert count_records(str(tmp_path / "x.json")) == records


def test_one_artist_in_other_capitals_is_one_group(tmp_path: Path) -> None:
    names = ["Rembrandt van Rijn", "REMBRANDT VAN RIJN", "rembrandt van rijn", "Hals", "Vermeer"]
    rows = [row | {"artist_display_name": names[n % 5]} for n, row in enumerate(objects(40))]
    _, found = run(tmp_path, table=write_csv(tmp_path / "x.csv", rows))
    assert {row["group"] for row in found} == {"Rembrandt van Rijn", "Hals", "Vermeer"}
    sides = {row["split"] for row in found if row["artist"].lower().startswith("rembrandt")}
    assert len(sides) == 1
