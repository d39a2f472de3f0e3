"""source=folder, local and in buckets; tables in buckets and on web servers."""

import os
from pathlib import Path

import pytest

from components.query.settings import QueryError
from components.shared.parameters import ParameterError
from components.shared.storage import storage
from tests.fakes.museums import serve
from tests.helpers.tables import objects, run, write_csv

FILES = [
    "cat/1.jpg",
    "cat/2.JPEG",
    "cat/2.png",
    "dog/a b/1.jpg",
    "dog/2.webp",
    "stray.jpg",
    "dog/notes.txt",
    "cat/.hidden.jpg",
]


def fill(root: str) -> None:
    """Writes FILES below `root`."""
    for name in FILES:
        storage.write_bytes(storage.join(root, name), b"x")


def check(folder: Path, root: str) -> None:
    """Whether every picture of FILES got its class, an id of its own and an address that can be read."""
    selection, rows = run(folder, source="folder", table=root, label="")
    assert selection.labels == ["cat", "dog"] and selection.label == "folder"
    assert sorted((row["label"], row["image_uri"]) for row in rows) == sorted(
        (name.partition("/")[0], storage.join(root, name)) for name in FILES[:5]
    )
    assert len({row["object_id"] for row in rows}) == 5 and all(row["group"] for row in rows)
    assert all(storage.exists(row["image_uri"]) for row in rows)
    assert selection.counts.no_label == 1
    assert "note: 1 files that are no pictures are left out: 1 .txt" in str(selection)


def test_a_local_folder(tmp_path: Path, monkeypatch) -> None:
    fill(str(tmp_path / "photos"))
    check(tmp_path, str(tmp_path / "photos"))
    monkeypatch.chdir(tmp_path)
    _, rows = run(tmp_path, source="folder", table="photos", label="parent")
    assert {row["label"] for row in rows} == {"cat", "dog", "a b"}
    assert all(row["image_uri"].startswith(str(tmp_path)) for row in rows)


def test_a_folder_in_a_bucket(tmp_path: Path, gs_bucket: str) -> None:
    fill(f"{gs_bucket}/photos")
    check(tmp_path, f"{gs_bucket}/photos")


def test_a_folder_in_an_s3_bucket(tmp_path: Path, s3_bucket: str) -> None:
    fill(f"{s3_bucket}/photos")
    check(tmp_path, f"{s3_bucket}/photos")


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="there is no such folder"):
        run(tmp_path, source="folder", table=str(tmp_path / "nothing"), label="")
    with pytest.raises(ParameterError, match="needs table=FOLDER"):
        run(tmp_path, source="folder", label="")


def test_tables_are_read_from_wherever_they_are(tmp_path: Path, gs_bucket: str) -> None:
    rows = [row | {"original_image_url": f"images/{row['object_id']}.jpg"} for row in objects(20)]
    table = write_csv(tmp_path / "objects.csv", rows)
    storage.upload(table, f"{gs_bucket}/met/objects.csv")
    _, from_bucket = run(tmp_path, table=f"{gs_bucket}/met/objects.csv")
    assert from_bucket[0]["image_uri"] == f"{gs_bucket}/met/images/{from_bucket[0]['object_id']}.jpg"
    text = Path(table).read_text()
    missing = 404, {}, "gone"
    with serve(lambda path, _: (200, {}, text) if path == "/met/objects.csv" else missing) as (api, address):
        _, from_web = run(tmp_path, table=f"{address}/met/objects.csv")
        assert from_web[0]["image_uri"] == f"{address}/met/images/{from_web[0]['object_id']}.jpg"
        assert [row["split"] for row in from_web] == [row["split"] for row in from_bucket]
        with pytest.raises(Exception, match="404|not found|no such") as caught:
            run(tmp_path, table=f"{address}/met/other.csv")
        assert "\n" not in str(caught.value)


def photos(root: Path, *names: str, content: bytes = b"\xff\xd8\xff\xe0 and so on") -> str:
    """Writes files below `root`; returns its path."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return str(root)


def test_content_decides_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    photos(root, "cat/1.jfif", "cat/2", "cat/3.jpg_large", "cat/@eaDir/1.jpg/thumb.jpg", "cat/._1.jpg", "dog/1.JPE")
    photos(root, "__MACOSX/cat/1.jpg", "#recycle/dog/2.jpg")
    photos(root, "dog/list.csv", "dog/film.mp4", "notes/readme.txt", content=b"no picture")
    photos(tmp_path / "elsewhere", "5.png", "again/6.png")
    (root / "bird").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "again" / "loop").symlink_to(root)
    (root / "empty").mkdir()
    selection, rows = run(tmp_path, source="folder", table=str(root), label="")
    assert sorted(row["image_uri"].removeprefix(f"{root}/") for row in rows) == [
        "bird/5.png", "bird/again/6.png", "cat/1.jfif", "cat/2", "cat/3.jpg_large", "dog/1.JPE",
    ]  # fmt: skip
    assert "3 files that are no pictures are left out: 1 .mp4, 1 .csv, 1 .txt" in str(selection)
    assert "4 hidden files and files of other programs are left out, such as #recycle/dog/2.jpg" in str(selection)
    assert "2 folders without a picture are no classes: empty, notes" in str(selection)


def test_names_in_a_legacy_encoding_are_left_out_and_said(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos", "cat/1.jpg", "dog/1.jpg")
    Path(os.fsdecode(os.fsencode(root) + b"/cat/caf\xe9.jpg")).write_bytes(b"x")
    Path(os.fsdecode(os.fsencode(root) + b"/b\xeate")).mkdir()
    selection, rows = run(tmp_path, source="folder", table=root, label="")
    assert len(rows) == 2 and "1 files are left out, as their names are not in UTF-8" in str(selection)
    assert r"1 folders without a picture are no classes: b\xeate" in str(selection)


@pytest.mark.parametrize(
    "names, message",
    [
        (["1.jpg", "2.jpg"], "all 2 pictures lie in the folder itself; put them into a folder per class"),
        (["PetImages/Cat/1.jpg", "PetImages/Dog/1.jpg"], "take table=.*/PetImages, or label=parent"),
        ([".hidden/1.jpg"], "there is no picture in this folder; 1 hidden files"),
    ],
)
def test_what_is_no_folder_per_class_says_what_to_do(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        run(tmp_path, source="folder", table=photos(tmp_path / "photos", *names), label="")


def test_a_wrapped_folder_is_learned_by_parent(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos", "PetImages/Cat/1.jpg", "PetImages/Dog/1.jpg")
    assert run(tmp_path, source="folder", table=root, label="parent")[0].labels == ["Cat", "Dog"]
