"""The convert step on small shards, written as the fetch step writes them."""

import os

import pyarrow.parquet as pq
import pytest

from components.artifacts import dataset, index, records
from components.convert import converter
from components.convert.converter import convert_shard
from components.shared.errors import PipelineError
from components.shared.storage import storage
from tests.helpers.image_shards import Item, drawing, stored, write_shard

SHARD = "00001-of-00004"
LABELS = ["Dutch", "French"]


def items() -> list[Item]:
    splits = ("train", "train", "validation", "test", "train")
    good = [Item(f"{k:03d}", LABELS[k % 2], splits[k], stored(drawing(k))) for k in range(5)]
    return good + [Item("gone", "Dutch", "train", status="not_found")]


def convert(tmp_path, collection: list[Item]):
    """The summary, the folder of the records and the index, as a list of rows."""
    write_shard(tmp_path / "images", SHARD, collection, LABELS)
    return convert_again(tmp_path)


def convert_again(tmp_path):
    folder, index = tmp_path / "records", tmp_path / "index"
    summary = convert_shard(SHARD, str(tmp_path / "images"), str(folder), str(folder), str(index))
    return summary, folder, pq.read_table(index).to_pylist()


def test_one_record_file_per_split_that_occurs(tmp_path):
    summary, folder, _ = convert(tmp_path, items()[:2] + items()[3:])
    assert sorted(os.listdir(folder)) == [f"test-{SHARD}.tfrecord", f"train-{SHARD}.tfrecord"]
    assert (summary.objects, summary.records, summary.failed) == (5, 4, 1)
    assert summary.metadata()["records"] == 4


def test_records_carry_picture_size_label_and_checksums(tmp_path):
    collection = items()
    _, folder, rows = convert(tmp_path, collection)
    expected = {item.object_id: item for item in collection}
    sources = {row["object_id"]: row["sha256"] for row in rows}
    found = [record for file in storage.list_files(str(folder)) for _, record in dataset.read_file(file.uri)]
    assert len(found) == 5
    for record in found:
        item = expected[record.object_id]
        records.verify(record)
        assert (record.label, LABELS[record.label_index]) == (item.label, item.label)
        assert (record.width, record.height, record.format) == (160, 128, "jpeg")
        assert record.encoded == item.jpeg
        assert record.source_sha256 == sources[record.object_id]


def test_a_ranged_read_returns_the_example(tmp_path):
    _, _, rows = convert(tmp_path, items())
    for row in rows[:5]:
        payload = storage.read_bytes(row["record_uri"], row["offset"], row["length"])
        assert records.decode(payload).object_id == row["object_id"]


def test_the_index_has_every_object_with_all_its_columns(tmp_path):
    collection = items()
    collection[0].columns = {"artist": "Hals", "rights": "CC0"}
    _, _, rows = convert(tmp_path, collection)
    assert [row["object_id"] for row in rows] == [item.object_id for item in collection]
    assert (rows[0]["artist"], rows[0]["rights"], rows[0]["split"]) == ("Hals", "CC0", "train")
    assert (rows[0]["original_width"], rows[0]["original_height"]) == (640, 480)
    assert (rows[5]["status"], rows[5]["message"], rows[5]["record_uri"]) == ("not_found", "not found", None)


@pytest.mark.parametrize(
    "damage", [lambda jpeg: jpeg[:900], lambda jpeg: b"<html>", lambda jpeg: jpeg[:300] + bytes(2000)]
)
def test_a_corrupt_picture_is_logged_and_the_others_go_on(tmp_path, damage):
    collection = items()
    collection[1].in_shard = damage(collection[1].jpeg)
    summary, _, rows = convert(tmp_path, collection)
    assert summary.records == 4
    assert rows[1]["status"] == index.CORRUPT and rows[1]["message"] and rows[1]["record_uri"] is None


def test_a_picture_that_the_shard_lacks_is_logged(tmp_path):
    collection = items()
    collection[2].in_shard = b""
    _, _, rows = convert(tmp_path, collection)
    assert rows[2]["status"] == index.MISSING and rows[2]["record_uri"] is None


def test_a_tar_that_its_log_does_not_describe_is_refused(tmp_path):
    write_shard(tmp_path / "images", SHARD, items(), LABELS)
    (tmp_path / "images" / "fetch-log.parquet").rename(tmp_path / "log")
    write_shard(tmp_path / "images", SHARD, items()[::-1], LABELS)
    (tmp_path / "log").rename(tmp_path / "images" / "fetch-log.parquet")
    with pytest.raises(PipelineError, match="of different fetches.*run the fetch step again"):
        convert_again(tmp_path)
    assert os.listdir(tmp_path / "records") == [] and not (tmp_path / "index").exists()


def test_more_rows_than_are_held_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(converter, "_BATCH", 2)
    summary, _, rows = convert(tmp_path, items())
    assert (summary.objects, summary.records) == (6, 5)
    assert [row["object_id"] for row in rows] == ["000", "001", "002", "003", "004", "gone"]
    assert [row["phash"] is None for row in rows] == [False] * 5 + [True]


def test_the_same_shard_gives_the_same_bytes(tmp_path):
    def contents():
        return {name: (tmp_path / "records" / name).read_bytes() for name in os.listdir(tmp_path / "records")}

    convert(tmp_path, items())
    first, index = contents(), (tmp_path / "index").read_bytes()
    convert_again(tmp_path)
    assert contents() == first
    assert (tmp_path / "index").read_bytes() == index


def test_a_shard_that_is_cut_off_leaves_no_file_under_a_final_name(tmp_path):
    write_shard(tmp_path / "images", SHARD, items(), LABELS)
    path = tmp_path / "images" / f"images-{SHARD}.tar"
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(PipelineError, match=f"images-{SHARD}.tar.*run the fetch step again"):
        convert_again(tmp_path)
    assert os.listdir(tmp_path / "records") == []
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("name", ["fetch-log.parquet", f"images-{SHARD}.tar"])
def test_a_missing_file_of_the_shard_is_named(tmp_path, name):
    write_shard(tmp_path / "images", SHARD, items(), LABELS)
    os.unlink(tmp_path / "images" / name)
    with pytest.raises(PipelineError, match=name):
        convert_again(tmp_path)


def test_a_shard_without_any_picture_is_an_index_of_failures(tmp_path):
    summary, folder, rows = convert(tmp_path, [Item("a", "Dutch", "train", status="timeout")])
    assert os.listdir(folder) == []
    assert (summary.records, [row["status"] for row in rows]) == (0, ["timeout"])
