"""Images whose bytes are in the collection's files: the same images by each way, and no request for them."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from components.artifacts.objects import parse_range
from components.fetch.fetcher import fetch_shard
from components.query import inside
from components.query.selection import Settings, select
from components.query.settings import QueryError
from components.shared.storage import storage
from tests.fakes.image_server import jpeg
from tests.helpers.fetch_settings import fetch_settings
from tests.helpers.fetched_shards import QUICK, read_log

NUMBER = 12
NAMES = ["cat", "dog"]


def images(start: int = 0, number: int = NUMBER) -> pyarrow.Table:
    """The layout of Hugging Face: a struct of bytes and path, a label as the number of a class."""
    pictures = [{"bytes": jpeg(n), "path": f"{n}.jpg"} for n in range(start, start + number)]
    table = pyarrow.table({"image": pictures, "label": [n % 2 for n in range(start, start + number)]})
    features = {"image": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def run(folder: Path, **settings: object) -> list[dict]:
    """The rows of objects.parquet."""
    values = {"source": "table", "label": "label", "min_images_per_class": 1, "shards": 1} | settings
    select(Settings(**values), *(str(folder / name) for name in ("objects", "labels", "profile")))
    return pyarrow.parquet.read_table(folder / "objects").to_pylist()


def stored(row: dict) -> bytes:
    """The bytes that its address names."""
    uri, offset, length = parse_range(row["image_uri"])
    return storage.read_bytes(uri, offset, length)


@pytest.mark.parametrize("at_once", [1 << 30, 5000])
def test_the_layout_of_hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(inside, "FILE_BYTES", at_once)
    pyarrow.parquet.write_table(images(), tmp_path / "train.parquet", row_group_size=5)
    rows = run(tmp_path, table=str(tmp_path / "train.parquet"))
    assert {row["object_id"][:1] for row in rows} >= {"0", "9"} and len(rows) == NUMBER
    for row in rows:
        number = int(row["object_id"].partition("-")[0])
        assert row["label"] == NAMES[number % 2] and stored(row) == jpeg(number)
    assert (len(list((tmp_path / "objects.images").iterdir())) > 1) == (at_once == 5000)


def test_only_what_is_chosen_is_taken_out(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(images(), tmp_path / "x.parquet")
    rows = run(tmp_path, table=str(tmp_path / "x.parquet"), max_images_per_class=2, min_images_per_class=1)
    size = sum(file.stat().st_size for file in (tmp_path / "objects.images").iterdir())
    assert len(rows) == 4 and size == sum(len(stored(row)) for row in rows)


def test_files_of_a_split_and_plain_columns_of_bytes(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(images(0, 8), tmp_path / "train-00000-of-00001.parquet")
    pyarrow.parquet.write_table(images(8, 4), tmp_path / "test-00000-of-00001.parquet")
    rows = run(tmp_path, table=str(tmp_path / "*.parquet"))
    assert {row["object_id"].partition("-")[0] for row in rows if row["split"] == "test"} == {"8", "9", "10", "11"}
    plain = pyarrow.table({"id": list(range(6)), "kind": list("ababab"), "jpg": [jpeg(n) for n in range(6)]})
    (tmp_path / "plain").mkdir()
    pyarrow.parquet.write_table(plain, tmp_path / "plain" / "x.parquet")
    rows = run(tmp_path, table=str(tmp_path / "plain" / "x.parquet"), columns="object_id=id", label="kind")
    assert {row["object_id"]: stored(row) for row in rows} == {str(n): jpeg(n) for n in range(6)}


def test_the_fetch_step_reads_them_without_a_request(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(images(), tmp_path / "x.parquet")
    run(tmp_path, table=str(tmp_path / "x.parquet"))
    out = str(tmp_path / "out")
    summary = fetch_shard("00000-of-00001", str(tmp_path / "objects"), out, out, fetch_settings(image_size=32), QUICK)
    assert not summary.reasons and summary.objects == NUMBER
    assert {row["http_status"] for row in read_log(tmp_path / "out").values()} == {0}


def archive(path: Path, files: dict[str, bytes]) -> str:
    """A zip or tar of `files`, as its ending says."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, data in files.items():
                packed.writestr(name, data)
        return str(path)
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return str(path)


def test_folders_in_archives_are_as_the_folders_themselves(tmp_path: Path) -> None:
    files = {f"{NAMES[n % 2]}/{n}.jpg": jpeg(n) for n in range(6)}
    for name, data in files.items():
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(data)
    plain = run(tmp_path, source="folder", table=str(tmp_path / "photos"), label="")
    extra = files | {"__MACOSX/cat/._0.jpg": b"x", "readme": b"no image", "dog/6": jpeg(6)}
    for name in ("photos.zip", "photos.tar", "photos.tar.gz"):
        rows = run(
            tmp_path, source="folder", table=archive(tmp_path / name, extra if "zip" in name else files), label=""
        )
        assert {
            row["object_id"]: stored(row) for row in rows if row["object_id"] in {r["object_id"] for r in plain}
        } == {row["object_id"]: Path(row["image_uri"]).read_bytes() for row in plain}
        same = ("object_id", "label", "split", "shard", "group")
        known = [{key: row[key] for key in same} for row in rows if not row["object_id"].startswith("dog-6")]
        assert known == [{key: row[key] for key in same} for row in plain]
        assert len(rows) == (7 if "zip" in name else 6), "content decides"


def test_a_web_dataset(tmp_path: Path) -> None:
    for shard in range(2):
        files = {}
        for n in range(4 * shard, 4 * shard + 4):
            files |= {f"{n:03d}.cls": NAMES[n % 2].encode(), f"{n:03d}.jpg": jpeg(n)}
            files[f"{n:03d}.json"] = json.dumps({"artist_display_name": f"A{n}", "title": f"T{n}"}).encode()
        archive(tmp_path / f"s-{shard:03d}.tar", files)
    for pattern in ("s-*.tar", "s-{000..001}.tar"):
        rows = run(tmp_path, source="webdataset", table=str(tmp_path / pattern), label="")
        assert {row["object_id"]: (row["label"], row["title"]) for row in rows} == {
            f"{n:03d}": (NAMES[n % 2], f"T{n}") for n in range(8)
        }
        assert all(stored(row) == jpeg(int(row["object_id"])) for row in rows)


def test_archives_without_images_and_none_at_all_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"no archive")
    empty = archive(tmp_path / "y.tar", {"a.txt": b"x"})
    for source, table, message in (
        ("folder", str(tmp_path / "x.zip"), "it is no zip and no tar archive"),
        ("webdataset", empty, "there is no image in it"),
        ("webdataset", str(tmp_path / "z-*.tar"), "no file has such a name"),
        ("folder", empty, "there is no picture in this folder"),
    ):
        with pytest.raises(QueryError, match=message):
            run(tmp_path, source=source, table=table, label="")
