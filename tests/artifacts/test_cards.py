"""What others read of a model and a data set, read by their own readers."""

import json
import subprocess
import sys
from pathlib import Path

import mlcroissant
import pyarrow as pa
import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import EvalResult
from pyarrow import parquet

from components.artifacts import croissant, hub_card
from components.artifacts import dataset as datasets
from tests.helpers.colour_model import card

ODD = 'Paris: "x" | #1 <b>é\u2028---'


@pytest.fixture
def dataset(tmp_path):
    """A data set with odd labels, an object that failed, and a number of 64 bits without a sign."""
    columns = {
        "object_id": ["a", "b", "c"],
        "label": [ODD, "blue", "blue"],
        "label_index": pa.array([0, 1, 1], pa.int32()),
        "split": ["train", "test", None],
        "rights": ["CC0", "CC0", "all rights reserved"],
        "width": pa.array([80, 90, None], pa.int32()),
        "bytes": pa.array([2**40, 1, None], pa.int64()),
        "seconds": pa.array([0.5, 1.25, None], pa.float64()),
        "phash": pa.array([2**64 - 1, 1, None], pa.uint64()),
        "kept": [True, True, False],
        "thumbnail": [b"", b"", b""],
    }
    split = {"examples": 1, "per_class": [1, 0], "files": []}
    content = {"labels": [ODD, "blue"], "snapshot": "5" * 64, "parameters": {"label": "culture", "source": "sample"}}
    datasets.write(str(tmp_path), content | {"splits": {"train": split, "test": split}}, pa.table(columns))
    return tmp_path


def test_croissant_is_valid_and_its_records_are_the_parquets(dataset):
    path = str(dataset / croissant.FILE_NAME)
    command = [Path(sys.executable).parent / "mlcroissant", "validate", "--jsonld", path]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    found = mlcroissant.Dataset(jsonld=path)
    assert not found.metadata.issues.errors and found.metadata.license == ["CC0"]
    assert json.loads((dataset / croissant.FILE_NAME).read_text())["conformsTo"].endswith("/croissant/1.1")
    table = parquet.read_table(dataset / datasets.EXAMPLES).drop_columns(["phash"])
    records = [
        {
            name.removeprefix("examples/"): value.decode() if isinstance(value, bytes) else value
            for name, value in row.items()
        }
        for row in found.records("examples")
    ]
    assert records == table.to_pylist()


def test_a_data_set_that_changed_is_not_taken_for_it(dataset):
    parquet.write_table(pa.table({"object_id": ["z"]}), dataset / datasets.EXAMPLES)
    with pytest.raises(Exception, match="Download"):
        list(mlcroissant.Dataset(jsonld=str(dataset / croissant.FILE_NAME)).records("examples"))


def test_the_model_card_is_the_hubs(tmp_path):
    about = card([ODD, *(f"class {n}" for n in range(300))], 64, 56)
    about["data"] = {"examples_test": 1200, "parameters": {"label": ODD, "table": "a|b"}}
    hub_card.write(str(tmp_path), about, "test", {"accuracy": 0.9375, "macro_f1": 0.91, "other": 1.0})
    found = ModelCard.load(tmp_path / hub_card.FILE_NAME)
    assert found.data.library_name == "keras" and found.data.pipeline_tag == "image-classification"
    accuracy, f1 = found.data.eval_results
    assert isinstance(accuracy, EvalResult) and (accuracy.metric_type, accuracy.metric_value) == ("accuracy", 0.9375)
    assert (accuracy.task_type, accuracy.dataset_split) == ("image-classification", "test")
    assert accuracy.dataset_revision == "0" * 64 and f1.metric_type == "f1"
    assert "93.8 % of 1,200 test images are right" in found.text and "and 101 more" in found.text
    assert "<b>" not in found.text.replace("\\<b\\>", "")
