import json
import shutil
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from components.artifacts import dataset
from components.evaluate import testset
from components.shared.errors import PipelineError
from tests.helpers.evaluation_data import LABELS, write_dataset

OBJECTS = [(name, name) for name in LABELS] * 4


@pytest.fixture
def folder(tmp_path) -> Path:
    return Path(write_dataset(tmp_path / "dataset", OBJECTS))


def rewrite(folder: Path, change) -> None:
    rows = parquet.read_table(folder / dataset.EXAMPLES).to_pylist()
    parquet.write_table(pyarrow.Table.from_pylist(change(rows)), folder / dataset.EXAMPLES)


def test_order_targets_and_pictures_belong_together(folder):
    found = testset.load(str(folder))
    assert found.object_ids == [f"object-{number}" for number in range(12)]
    assert [LABELS[target] for target in found.targets] == [label for _, label in OBJECTS]
    batches = list(found.batches(5))
    assert [len(batch) for batch in batches] == [5, 5, 2]
    pictures = [picture for batch in batches for picture in batch]
    assert found.pictures([7, 3]) == {3: pictures[3], 7: pictures[7]}


def test_excluded_objects_are_left_out(folder):
    """As the assemble step does it: marked in the index, named in dataset.json, and still in the record file."""
    rewrite(folder, lambda rows: [row | {"kept": row["object_id"] != "object-5"} for row in rows])
    content = json.loads((folder / "dataset.json").read_text())
    content["excluded"] = [{"object_id": "object-5", "split": "test", "reason": "duplicate", "uri": "", "position": 5}]
    (folder / "dataset.json").write_text(json.dumps(content))
    found = testset.load(str(folder))
    assert len(found) == 11 and "object-5" not in found.object_ids
    assert sum(len(batch) for batch in found.batches(4)) == 11


def test_the_index_in_another_order_changes_nothing(folder):
    rewrite(folder, lambda rows: rows[::-1])
    assert testset.load(str(folder)).object_ids[0] == "object-0"


@pytest.mark.parametrize("change", [lambda rows: rows[:-1], lambda rows: [rows[0] | {"object_id": "other"}, *rows[1:]]])
def test_an_index_of_another_data_set(folder, change):
    rewrite(folder, change)
    with pytest.raises(PipelineError, match="examples.parquet of .* does not fit its record files"):
        list(testset.load(str(folder)).batches(5))


def test_slices_are_columns_that_tell_pictures_apart(folder):
    columns = testset.load(str(folder)).columns()
    assert set(columns) == {"period", "original size"}  # all are in the public domain
    assert columns["period"][:2] == ["century 0", "century 1"]
    assert set(columns["original size"]) == {"under 300 px", "300 to 599 px", "600 to 1,199 px"}


def test_the_label_itself_is_no_slice(folder):
    rewrite(folder, lambda rows: [row | {"meta_colour": row["label"]} for row in rows])
    assert "colour" not in testset.load(str(folder)).columns()


def test_a_folder_without_an_index(folder):
    (folder / dataset.EXAMPLES).unlink()
    with pytest.raises(PipelineError, match="has no examples.parquet"):
        testset.load(str(folder))


def test_a_record_file_that_is_gone(folder, tmp_path):
    found = testset.load(str(folder))
    shutil.move(folder / "test-00000-of-00001.tfrecord", tmp_path / "elsewhere")
    with pytest.raises(PipelineError, match="cannot read .*tfrecord"):
        list(found.batches(5))
