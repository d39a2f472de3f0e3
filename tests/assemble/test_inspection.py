"""`pipeline.py inspect` on small data sets, whole and damaged."""

import shutil

import pytest

from components.artifacts import dataset, records
from components.assemble.inspection import inspect
from components.shared.errors import PipelineError
from tests.helpers.image_shards import assemble, drawing, stored
from tests.helpers.small_collections import collection, doubtful, examples_of


@pytest.fixture(scope="module")
def assembled(tmp_path_factory):
    return assemble(tmp_path_factory.mktemp("inspected"), doubtful(), shards=2)


@pytest.fixture
def damaged(tmp_path):
    """A data set of its own, to be damaged, and two of its record files."""
    result = assemble(tmp_path, doubtful(), shards=2)
    info = dataset.load(str(result.dataset))
    return str(result.dataset), info.splits["train"].files[0].uri, info.splits["validation"].files[0].uri


def test_the_whole_set(assembled, capsys):
    assert inspect(str(assembled.dataset / "dataset.json")) == 0
    text = capsys.readouterr().out
    assert assembled.summary.snapshot[:12] in text
    assert "25  objects selected" in text and "−1 not found" in text
    assert "21  examples  −1 copies of the same picture  −2 equal pictures with different labels" in text
    assert text.split("Dutch")[1].split()[:4] == ["4", "3", "3", "10"]


def test_one_object(assembled, capsys):
    assert inspect(str(assembled.dataset), object_id="0000") == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.strip())
    assert (lines["reason"], lines["because_of"], lines["label"]) == ("near_duplicate", "0003", "Dutch")
    assert lines["record_uri"].endswith("train-00000-of-00002.tfrecord")


def test_an_unknown_object_names_near_ones(assembled):
    with pytest.raises(PipelineError, match="no object '00012' in this data set of 25 objects; near: 0012"):
        inspect(str(assembled.dataset), object_id="00012")


def test_verify_reads_everything(assembled, capsys):
    assert inspect(str(assembled.dataset), verify=True) == 0
    assert "24 records" in capsys.readouterr().out


def flip(path: str, where: int) -> None:
    with open(path, "r+b") as file:
        file.seek(where)
        byte = file.read(1)[0]
        file.seek(where)
        file.write(bytes([byte ^ 4]))


def test_verify_names_file_and_position_of_a_flipped_bit(damaged, capsys):
    folder, uri, _ = damaged
    flip(uri, 2000)
    assert inspect(folder, verify=True) == 1
    assert f"{uri}: record 0 (at byte 0) is damaged" in capsys.readouterr().out


def test_verify_names_a_file_that_is_cut_off_or_gone(damaged, capsys):
    folder, uri, other = damaged
    with open(uri, "r+b") as file:
        file.truncate(3000)
    shutil.move(other, f"{other}.away")
    assert inspect(folder, verify=True) == 1
    text = capsys.readouterr().out
    assert f"{uri}: record 0 (at byte 0) is cut off" in text
    assert f"cannot read {other}" in text


def test_verify_notices_records_of_another_run(damaged, capsys):
    folder, uri, other = damaged
    shutil.copy(other, uri)
    assert inspect(folder, verify=True) == 1
    assert f"{uri}: " in capsys.readouterr().out


def test_verify_reads_on_behind_damaged_content(damaged, capsys):
    folder, uri, other = damaged
    spans = [span for span, _ in dataset.read_file(uri)]
    for span in (spans[0], spans[2]):
        flip(uri, span.offset + span.length // 2)
    flip(other, 30)
    assert inspect(folder, verify=True) == 1
    text = capsys.readouterr().out
    for position in (0, 2):
        assert f"{uri}: record {position} (at byte " in text
    assert f"{other}: record 0 (at byte 0) is damaged" in text
    assert "3 faults" in text and "21 records" in text


def test_verify_notices_files_of_another_run_with_the_same_counts(tmp_path, capsys):
    """Every checksum is right, and every count: the pictures were stored in another quality."""
    ours, theirs = collection(), collection()
    for item in theirs:
        item.jpeg = stored(drawing(int(item.object_id)), quality=70)
    assemble(tmp_path / "theirs", theirs)
    result = assemble(tmp_path / "ours", ours)
    uri = dataset.load(str(result.dataset)).splits["train"].files[0].uri
    shutil.copy(uri.replace("/ours/", "/theirs/"), uri)
    assert inspect(str(result.dataset), verify=True) == 1
    text = capsys.readouterr().out
    assert f"{uri}: record 0 (at byte 12): sha256 is " in text and "12 faults" in text


def test_verify_computes_the_snapshot_again(tmp_path, capsys):
    result = assemble(tmp_path, collection())
    path = result.dataset / "dataset.json"
    path.write_text(path.read_text().replace(result.summary.snapshot, "0" * 64))
    assert inspect(str(result.dataset), verify=True) == 1
    text = capsys.readouterr().out
    assert f"the snapshot of the records is {result.summary.snapshot}; dataset.json says 0000" in text


def test_verify_notices_an_object_in_two_splits(tmp_path, capsys):
    result = assemble(tmp_path, collection())
    files = {name: split.files[0].uri for name, split in dataset.load(str(result.dataset)).splits.items()}
    shutil.copy(files["test"], files["validation"])
    assert inspect(str(result.dataset), verify=True) == 1
    assert "object 0003 occurs twice, in validation and test" in capsys.readouterr().out


def test_tensorflow_datasets_reads_the_export(assembled, tmp_path):
    import tensorflow_datasets as tfds

    assert inspect(str(assembled.dataset), export_to=str(tmp_path / "tfds")) == 0
    builder = tfds.builder_from_directory(str(tmp_path / "tfds"))
    names = builder.info.features["image"]["class"]["label"].names
    found = {}
    for split, info in builder.info.splits.items():
        rows = list(
            tfds.as_numpy(builder.as_dataset(split, decoders={"image": {"encoded": tfds.decode.SkipDecoding()}}))
        )
        assert len(rows) == info.num_examples
        for row in rows:
            image = row["image"]
            assert image["class"]["text"].decode() == names[image["class"]["label"]]
            found[image["object_id"].decode()] = (image["class"]["text"].decode(), split, image["encoded"])
    assert found == examples_of(assembled)
    decoded = next(iter(tfds.as_numpy(builder.as_dataset("test"))))["image"]
    assert decoded["encoded"].shape == (decoded["height"], decoded["width"], 3)


def test_the_export_takes_no_folder_that_has_something_in_it(assembled, tmp_path):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(PipelineError, match="is not empty: name a new folder"):
        inspect(str(assembled.dataset), export_to=str(tmp_path))
    assert (tmp_path / "x").read_text() == "mine"


def test_the_export_does_not_go_to_a_store(assembled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match="--export s3://bucket/x: give a folder of this machine"):
        inspect(str(assembled.dataset), export_to="s3://bucket/x")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("changes", [{"verify": True}, {"object_id": "0000"}, {}])
def test_a_damaged_index_is_named_in_one_line(damaged, changes):
    folder, *_ = damaged
    with open(f"{folder}/examples.parquet", "r+b") as file:
        file.truncate(500)
    with pytest.raises(PipelineError, match="examples.parquet is damaged .*: run the assemble step again"):
        inspect(folder, **changes)


def test_text_that_is_no_utf_8_is_a_fault_and_not_an_end(tmp_path, capsys):
    result = assemble(tmp_path, collection())
    uri = dataset.load(str(result.dataset)).splits["train"].files[0].uri
    with open(uri, "rb") as file:
        payloads = [payload for _, payload in records.read_payloads(file, uri)]
    payloads[0] = payloads[0].replace(b"Dutch", b"D\xfftch")
    with records.RecordWriter(uri) as writer:
        for payload in payloads:
            writer.write(payload)
    assert inspect(str(result.dataset), verify=True) == 1
    assert "record 0 (at byte 12): the feature image/class/text is not UTF-8 text" in capsys.readouterr().out


def test_names_of_classes_are_no_markup(tmp_path, capsys):
    items = collection()
    for item in items:
        item.label = {"Dutch": "[unknown]", "French": "[/x]"}[item.label]
    result = assemble(tmp_path, items, min_eval_examples_per_class=9)
    assert inspect(str(result.dataset)) == 0
    text = capsys.readouterr().out
    assert "[unknown] (3)" in text and text.count("[/x]") == 3


@pytest.mark.parametrize(
    "content", ['{"format": 1}', '{"format": 1, "snapshot": "", "labels": 3}', '{"format": 1, "splits": []}']
)
def test_a_dataset_json_that_lacks_something_is_named(tmp_path, content):
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(PipelineError, match="dataset.json is incomplete or was changed .*: run the assemble"):
        inspect(str(tmp_path))


@pytest.mark.parametrize("content", ["", "[1]", '{"format": 9}'])
def test_what_is_no_data_set_is_named(tmp_path, content):
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(PipelineError, match="is it the dataset.json of an assemble step"):
        inspect(str(tmp_path))
