"""The assemble step on small collections, converted for real."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from components.artifacts import dataset
from components.assemble import assembler
from components.shared.errors import PipelineError
from tests.helpers.image_shards import Item, assemble, drawing, settings, stored
from tests.helpers.small_collections import collection, doubtful, examples_of


def read(assembled) -> dict:
    return json.loads((assembled.dataset / "dataset.json").read_text())


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


def test_conflicts_may_be_kept_as_duplicates_and_are_counted_and_shown(tmp_path):
    result = assemble(tmp_path, doubtful(), conflicts="keep")
    assert [row["reason"] for row in read(result)["excluded"]] == ["near_duplicate", "duplicate"]
    assert (result.summary.duplicates, result.summary.conflicts) == (2, 2)
    rows = pq.read_table(result.dataset / "examples.parquet").to_pylist()
    assert {row["object_id"]: row["kept"] for row in rows if row["conflict"]} == {"0004": True, "0009": False}
    page = result.report.read_text()
    section = page[page.index("Conflicting labels</h2>") :].split("</section>")[0]
    assert section.count("<img") == 2 and "kept as French" in section


def test_conflicts_may_stop_the_run_before_it_trains(tmp_path):
    result = assemble(tmp_path, doubtful(), conflicts="fail")
    reason = "2 equal pictures have different labels: 0004 (French), 0009 (Dutch)"
    assert reason in result.report.read_text() and reason in str(result.summary)
    assert result.summary.metadata()["check"] == "fail" and result.summary.metrics()["rules_fail"] == 1
    with pytest.raises(PipelineError, match=r"not fit for training: 2 equal pictures have different labels: 0004"):
        dataset.require_fit(str(result.dataset))


def test_a_set_with_warnings_may_be_trained_on(tmp_path):
    result = assemble(tmp_path, collection(), min_eval_examples_per_class=9)
    assert result.summary.metadata()["check"] == "warn"
    dataset.require_fit(str(result.dataset))


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
        ({"conflicts": "drop"}, "conflicts=drop is not allowed: use one of exclude, keep, fail"),
        ({"duplicate_distance": 40}, "duplicate_distance=40 is not allowed: use a whole number from -1 to 12"),
        ({"max_failed_fraction": -1}, "max_failed_fraction=-1 is not allowed"),
        ({"max_imbalance": float("nan")}, "max_imbalance=nan is not allowed: "),
        ({"max_drift": float("nan")}, "max_drift=nan is not allowed"),
        ({"max_drift": float("inf")}, "max_drift=inf is not allowed"),
    ],
)
def test_a_wrong_setting_names_what_is_allowed(tmp_path, change, message):
    with pytest.raises(PipelineError, match=message):
        assemble(tmp_path, collection(4), **change)


def test_an_interrupted_rewrite_leaves_no_dataset_json_beside_other_files(tmp_path, monkeypatch):
    before = assemble(tmp_path, collection())
    rows = (before.dataset / "examples.parquet").read_bytes()
    monkeypatch.setattr(assembler.pq, "write_table", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        _reassemble(tmp_path)
    assert not (before.dataset / "dataset.json").exists()
    assert (before.dataset / "examples.parquet").read_bytes() == rows, "the old file is replaced as a whole"


def _interrupted(table, path):
    Path(path).write_bytes(b"half of it")
    raise KeyboardInterrupt


def _reassemble(root: Path) -> None:
    inputs = [str(root / "00000-of-00001" / "index")], str(root / "objects"), str(root / "labels")
    assembler.assemble_dataset(*inputs, str(root / "dataset"), str(root / "report.html"), settings())


def test_what_the_query_step_says_of_itself_is_stored_and_shown(tmp_path):
    plain = assemble(tmp_path, collection())
    objects = pq.read_table(tmp_path / "objects")
    funnel = [["objects in the collection", 900, []], ["with a class", 100, [["have no value to learn", 800]]],
              ["selected", 24, [["in classes of fewer than 10", 76]]]]  # fmt: skip
    selection = json.dumps({"parameters": {"source": "table", "label": "culture", "where": "a < b"}, "funnel": funnel})
    pq.write_table(objects.replace_schema_metadata({"selection": selection}), tmp_path / "objects")
    _reassemble(tmp_path)
    content = read(plain)
    assert content["parameters"]["label"] == "culture" and content["parameters"]["conflicts"] == "exclude"
    assert content["selection"] == funnel
    assert content["snapshot"] == plain.summary.snapshot, "the same examples, whatever they were selected by"
    page = plain.report.read_text()
    assert "objects in the collection" in page and "have no value to learn" in page and "a &lt; b" in page
