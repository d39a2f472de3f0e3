"""The assemble step on small collections, converted for real."""

import json

import pytest
from PIL import ImageOps

from components.shared import dataset
from components.shared.errors import PipelineError
from tests.convert.shards import Item, assemble, drawing, stored


def collection(count: int = 24) -> list[Item]:
    splits = ("train", "train", "validation", "test")
    return [
        Item(f"{number:04d}", ("Dutch", "French")[number // 4 % 2], splits[number % 4], stored(drawing(number)))
        for number in range(count)
    ]


def doubtful() -> list[Item]:
    """A collection with a failed picture, a duplicate across splits and a conflict."""
    items = collection()
    items[3].jpeg = stored(ImageOps.mirror(drawing(0)))
    items[9].jpeg = stored(drawing(4))
    items[9].label = "Dutch"
    return items + [Item("gone", "Dutch", "train", status="not_found")]


def read(assembled) -> dict:
    return json.loads((assembled.dataset / "dataset.json").read_text())


def examples_of(assembled) -> dict[str, tuple]:
    info = dataset.load(str(assembled.dataset))
    return {
        example.object_id: (example.label, split, example.encoded)
        for split in info.splits
        for example in dataset.read_examples(str(assembled.dataset), split)
    }


def test_every_example_is_read_back_with_its_label(tmp_path):
    items = collection()
    result = assemble(tmp_path, items, shards=3)
    info = dataset.load(str(result.dataset))
    assert examples_of(result) == {item.object_id: (item.label, item.split, item.jpeg) for item in items}
    assert {name: split.examples for name, split in info.splits.items()} == {"train": 12, "validation": 6, "test": 6}
    assert info.splits["train"].per_class == (6, 6)
    assert info.stored_size == 128
    assert info.check == {"outcome": "ok", "reasons": []}
    assert (result.dataset / "labels.txt").read_text() == "Dutch\nFrench\n"


def test_excluded_pictures_are_skipped_and_named_with_their_place(tmp_path):
    result = assemble(tmp_path, doubtful(), shards=2)
    content = read(result)
    reasons = {row["object_id"]: (row["reason"], row["of"]) for row in content["excluded"]}
    assert reasons == {
        "0000": ("near_duplicate", "0003"),
        "0004": ("conflict", "0009"),
        "0009": ("conflict", "0004"),
    }
    assert not set(reasons) & set(examples_of(result))
    for row in content["excluded"]:
        found = {span.position: record.object_id for span, record in dataset.read_file(row["uri"])}
        assert found[row["position"]] == row["object_id"]
    metrics = result.summary.metrics()
    assert (metrics["examples_train"], metrics["duplicates"], metrics["conflicts"]) == (9, 1, 2)


def test_conflicts_may_be_kept_as_duplicates(tmp_path):
    reasons = [row["reason"] for row in read(assemble(tmp_path, doubtful(), conflicts="keep"))["excluded"]]
    assert reasons == ["near_duplicate", "duplicate"]


def test_conflicts_may_stop_the_run_after_the_report_is_written(tmp_path):
    with pytest.raises(PipelineError, match=r"2 equal pictures have different labels: 0004 \(French\), 0009 \(Dutch\)"):
        assemble(tmp_path, doubtful(), conflicts="fail")
    assert "0004 (French)" in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "dataset" / "dataset.json").read_text())["check"]["outcome"] == "fail"


def without_places(content: dict) -> str:
    for split in content["splits"].values():
        split["files"] = sorted(sum(file[name] for file in split["files"]) for name in ("examples", "records"))
    for row in content["excluded"]:
        row["uri"] = row["position"] = None
    return json.dumps(content)


def test_neither_shards_nor_order_change_the_data_set(tmp_path):
    runs = {
        "one": assemble(tmp_path / "one", doubtful(), shards=1),
        "many": assemble(tmp_path / "many", doubtful(), shards=5),
        "late": assemble(tmp_path / "late", doubtful()[::-1], shards=3, reverse=True),
    }
    assert len({run.summary.snapshot for run in runs.values()}) == 1
    assert len({without_places(read(run)) for run in runs.values()}) == 1
    assert len({json.dumps(sorted(examples_of(run).items()), default=bytes.hex) for run in runs.values()}) == 1


def test_two_runs_give_equal_bytes(tmp_path):
    def contents(run):
        text = (run.dataset / "dataset.json").read_text() + run.report.read_text()
        return text.replace(str(run.dataset.parent), "ROOT")

    one, other = (assemble(tmp_path / name, doubtful(), shards=3, reverse=name == "b") for name in "ab")
    assert contents(one) == contents(other)


@pytest.mark.parametrize("change", ["label", "split", "picture", "object"])
def test_the_snapshot_changes_with_what_training_sees(tmp_path, change):
    before, items = collection(), collection()
    if change == "label":
        items[2].label = "French"
    elif change == "split":
        items[2].split = "test"
    elif change == "picture":
        items[2].jpeg = stored(drawing(2), quality=91)
    else:
        items[2].object_id = "other"
    one, other = assemble(tmp_path / "a", before), assemble(tmp_path / "b", items)
    assert one.summary.snapshot != other.summary.snapshot


def test_the_snapshot_does_not_change_with_what_training_never_sees(tmp_path):
    more = collection() + [Item("gone", "Dutch", "train", status="timeout")]
    one, other = assemble(tmp_path / "a", collection()), assemble(tmp_path / "b", more)
    assert one.summary.snapshot == other.summary.snapshot


def test_shards_of_different_sizes_are_refused(tmp_path):
    items = collection()
    items[0].jpeg = stored(drawing(0), size=64)
    with pytest.raises(PipelineError, match="23 of 128 px, 1 of 64 px.*image_size"):
        assemble(tmp_path, items)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"conflicts": "drop"}, "conflicts=drop is not allowed; use one of exclude, keep, fail"),
        ({"duplicate_distance": 40}, "duplicate_distance=40 is not allowed; use 0 to 12, or -1 for off"),
        ({"max_failed_fraction": -1}, "max_failed_fraction=-1 is not allowed"),
    ],
)
def test_a_wrong_setting_names_what_is_allowed(tmp_path, change, message):
    with pytest.raises(PipelineError, match=message):
        assemble(tmp_path, collection(4), **change)
