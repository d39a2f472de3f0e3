"""What objects.parquet says of its own selection, and classes that nobody expected."""

from pathlib import Path

import pyarrow.parquet
import pytest

from components.artifacts.objects import selection
from components.query.settings import QueryError
from tests.helpers.tables import objects, run, write_csv


def described(folder: Path) -> dict:
    return selection(pyarrow.parquet.read_schema(folder / "objects").metadata)


def test_the_parameters_and_every_loss_are_in_the_metadata(tmp_path):
    rows = objects(40) + [{**row, "object_id": 100 + k, "culture": "Rare"} for k, row in enumerate(objects(3))]
    rows += [{**row, "object_id": 200 + k, "culture": ""} for k, row in enumerate(objects(5))]
    rows += [{**row, "object_id": 300 + k, "original_image_url": ""} for k, row in enumerate(objects(2))]
    table = write_csv(tmp_path / "it's.csv", rows)
    selection, chosen = run(
        tmp_path, table=table, where="object_id <> '1'", min_images_per_class=4, max_images_per_class=15
    )
    found = described(tmp_path)
    assert found["parameters"]["where"] == "object_id <> '1'" and found["parameters"]["table"] == table
    assert found["parameters"]["label"] == "culture" and "shards" not in found["parameters"]
    assert found["funnel"] == [
        ["objects in the collection", 50, []],
        ["with a class", 44, [["do not match where", 1], ["have no value to learn", 5]]],
        ["with a picture", 42, [["have no picture", 2]]],
        ["selected", 30, [["in classes of fewer than 4", 3], ["beyond 15 a class", 9]]],
    ]
    assert len(chosen) == 30


def test_a_signed_url_loses_its_signature(tmp_path):
    from components.query.origin import _without_token

    assert _without_token("https://store.test/t.csv?X-Amz-Signature=abc") == "https://store.test/t.csv"


def test_a_class_that_is_not_expected_ends_the_query(tmp_path):
    table = write_csv(tmp_path / "table.csv", objects(8))
    (tmp_path / "labels.txt").write_text("French\nJapan\n")
    run(tmp_path, table=table, expected_classes=str(tmp_path / "labels.txt"))
    with pytest.raises(QueryError, match="unexpected classes: Japan; add them to expected_classes or to label_map"):
        run(tmp_path, table=table, expected_classes="French,Dutch")
