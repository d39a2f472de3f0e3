"""The same behaviour for every scheme: plain paths, SeaweedFS by s3:// and minio://, an emulator of Cloud Storage."""

import os
import random

import pytest

from components.shared.storage import storage


@pytest.fixture(params=["path", "file", "s3", "minio", "gs"])
def root(request, tmp_path, monkeypatch):
    """An empty folder of each scheme."""
    if request.param == "gs":
        return request.getfixturevalue("gs_bucket") + "/folder"
    if request.param in ("s3", "minio"):
        bucket = request.getfixturevalue("s3_bucket")
        return bucket.replace("s3://", request.param + "://") + "/folder"
    return ("file://" if request.param == "file" else "") + str(tmp_path / "folder")


def test_what_is_written_is_read(root):
    data = random.Random(1).randbytes(300_000)
    uri = storage.join(root, "a b", "ü#?%.bin")
    assert not storage.exists(uri)
    storage.write_bytes(uri, data)
    assert storage.exists(uri) and storage.size(uri) == len(data)
    assert storage.read_bytes(uri) == data
    assert storage.read_bytes(uri, 100, 50) == data[100:150]
    assert storage.read_bytes(uri, 299_990) == data[-10:]
    assert storage.read_bytes(uri, 299_990, 50) == data[-10:]
    storage.write_bytes(uri, b"replaced")
    assert storage.read_bytes(uri) == b"replaced"
    storage.delete(uri)
    storage.delete(uri)
    assert not storage.exists(uri)


def test_empty_file(root, tmp_path):
    uri = storage.join(root, "empty")
    storage.write_bytes(uri, b"")
    assert storage.read_bytes(uri) == b"" and storage.read_bytes(uri, 0, 10) == b""
    storage.download(uri, str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == b""


def test_a_stream_is_seekable_and_crosses_chunks(root, monkeypatch):
    monkeypatch.setattr(storage, "CHUNK", 1000)
    data = random.Random(2).randbytes(5500)
    uri = storage.join(root, "big")
    storage.write_bytes(uri, data)
    with storage.open_read(uri) as file:
        assert file.read() == data
        file.seek(-100, os.SEEK_END)
        assert file.read() == data[-100:]
        file.seek(990)
        assert file.read(20) == data[990:1010]


def test_lists_a_folder_and_nothing_beside_it(root):
    for name in ("x/2", "x/1", "x/deep/3", "xy/4"):
        storage.write_bytes(storage.join(root, name), name.encode())
    found = storage.list_files(storage.join(root, "x"))
    folder = storage.local_path(root) or root
    assert [(file.uri, file.size) for file in found] == [
        (f"{folder}/x/1", 3),
        (f"{folder}/x/2", 3),
        (f"{folder}/x/deep/3", 8),
    ]
    assert storage.list_files(storage.join(root, "nothing")) == []


def test_copies_both_ways(root, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "CHUNK", 70_000)
    source = tmp_path / "source"
    data = random.Random(3).randbytes(200_000)
    source.write_bytes(data)
    storage.upload(str(source), storage.join(root, "sub/file"))
    storage.download(storage.join(root, "sub/file"), str(tmp_path / "new" / "copy"))
    assert (tmp_path / "new" / "copy").read_bytes() == data
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["copy"]


def test_mirror_sends_only_what_is_new_or_changed(root, tmp_path):
    here = tmp_path / "here"
    (here / "deep").mkdir(parents=True)
    (here / "a").write_bytes(b"1")
    (here / "deep" / "b").write_bytes(b"2")
    assert storage.mirror(str(here), root) == 2
    (here / "c").write_bytes(b"3")
    assert storage.mirror(str(here), root) == 1
    assert storage.download_folder(root, str(tmp_path / "there")) == 3
    assert (tmp_path / "there" / "deep" / "b").read_bytes() == b"2"


def test_a_missing_file_is_one_clear_line(root, tmp_path):
    uri = storage.join(root, "missing")
    for action in (lambda: storage.read_bytes(uri), lambda: storage.size(uri), lambda: storage.open_read(uri)):
        with pytest.raises(storage.NotFound, match="cannot read .*missing: "):
            action()
    with pytest.raises(storage.NotFound):
        storage.download(uri, str(tmp_path / "folder2" / "copy"))
    assert not list(tmp_path.rglob("copy*"))


def test_an_unknown_scheme_names_those_that_exist():
    with pytest.raises(storage.StorageError, match="unknown scheme ftp; use a plain path or one of file, gs, s3"):
        storage.read_bytes("ftp://host/file")


def test_published_uri(monkeypatch, tmp_path):
    assert storage.published_uri(str(tmp_path / "a")) == str(tmp_path / "a")
    monkeypatch.setenv("ARTIFACT_LOCAL_ROOT", str(tmp_path))
    monkeypatch.setenv("ARTIFACT_STORE_ROOT", "s3://bucket/runs/1")
    assert storage.published_uri(str(tmp_path / "convert" / "records")) == "s3://bucket/runs/1/convert/records"
    assert storage.published_uri("gs://other/file") == "gs://other/file"
    assert storage.published_uri("/elsewhere/file") == "/elsewhere/file"
