"""Each rule, by a collection that breaks it and one that does not."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from components.shared.errors import PipelineError
from components.shared.stability import population_stability_index
from tests.helpers.image_shards import Item, assemble, drawing, stored


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    return [stored(drawing(seed)) for seed in range(40)]


def items(pictures: list[bytes], per_split: dict[str, tuple[int, int]], failed: int = 0) -> list[Item]:
    """So many (Dutch, French) pictures in each split, and failed ones."""
    rest = iter(pictures)
    found = [
        Item(f"{split}-{label}-{k}", label, split, next(rest))
        for split, counts in per_split.items()
        for label, count in zip(("Dutch", "French"), counts)
        for k in range(count)
    ]
    return found + [Item(f"failed-{k}", "Dutch", "train", status="timeout") for k in range(failed)]


EVEN = {"train": (4, 4), "validation": (2, 2), "test": (2, 2)}


def check(tmp_path, collection: list[Item], **settings) -> tuple[str, list[str]]:
    assemble(tmp_path, collection, **settings)
    found = json.loads((tmp_path / "dataset" / "dataset.json").read_text())["check"]
    return found["outcome"], found["reasons"]


def test_a_good_set_is_ok(tmp_path, pictures):
    assert check(tmp_path, items(pictures, EVEN)) == ("ok", [])


def test_pictures_that_show_nothing_are_told(tmp_path, pictures):
    """A white one and a transparent one: fetch says what they are, the check warns."""
    said = {"white": "shows nothing: every pixel is #ffffff", "clear": "shows nothing: every pixel is transparent"}
    flat = stored(Image.new("L", (160, 128), 200))
    blank = [Item(name, "Dutch", "train", flat, columns={"message": text}) for name, text in said.items()]
    outcome, reasons = check(tmp_path, items(pictures, EVEN) + blank)
    assert outcome == "warn"
    assert reasons == ["2 pictures show nothing, every pixel has the same colour: clear (transparent), white (#ffffff)"]


@pytest.mark.parametrize(
    "settings, failed, per_split, outcome, reason",
    [
        (
            {"min_examples_per_class": 5},
            0,
            EVEN,
            "fail",
            "2 classes have fewer than 5 train examples: Dutch (4), French (4)",
        ),
        (
            {"min_eval_examples_per_class": 3},
            0,
            EVEN | {"test": (3, 2)},
            "warn",
            "1 class has fewer than 3 test examples: French (2)",
        ),
        (
            {"max_failed_fraction": 0.1},
            2,
            EVEN,
            "fail",
            "11.1% of the pictures failed, mostly timeout (2); max_failed_fraction allows 10.0%",
        ),
        ({"max_imbalance": 2}, 0, EVEN | {"train": (9, 3)}, "warn", "3 times the training examples"),
        ({"expected_classes": "Dutch, Flemish"}, 0, EVEN, "fail", "unexpected classes: French"),
        ({"expected_classes": "Dutch,French,Flemish"}, 0, EVEN, "warn", "expected classes are absent: Flemish"),
    ],
)
def test_a_broken_rule_is_named(tmp_path, pictures, settings, failed, per_split, outcome, reason):
    found, reasons = check(tmp_path, items(pictures, per_split, failed), **settings)
    assert found == outcome
    assert any(reason in line for line in reasons), reasons


def test_the_same_set_within_the_limits_is_ok(tmp_path, pictures):
    limits = {
        "min_examples_per_class": 4,
        "min_eval_examples_per_class": 2,
        "max_failed_fraction": 0.12,
        "max_imbalance": 1,
    }
    assert check(tmp_path, items(pictures, EVEN, 2), **limits, expected_classes="French,Dutch") == ("ok", [])


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_split_that_lost_all_its_pictures_stops_the_run(tmp_path, pictures, split):
    """Its pictures failed, or (validation) are copies of pictures in the test split."""
    collection = items(pictures, EVEN)
    for item in collection:
        if item.split == split:
            item.jpeg, item.status = b"", "timeout"
    outcome, reasons = check(tmp_path / "failed", collection)
    assert outcome == "fail" and f"no {split} example is left of 4 objects" in reasons[0]
    outcome, reasons = check(tmp_path / "unasked", [item for item in collection if item.split != split])
    assert (outcome, reasons) == ("ok", [])


def test_a_validation_split_of_nothing_but_copies_stops_the_run(tmp_path, pictures):
    collection = items(pictures, EVEN)
    tests = iter([item for item in collection if item.split == "test"])
    for item in collection:
        if item.split == "validation":
            item.jpeg = next(tests).jpeg
    outcome, reasons = check(tmp_path, collection)
    assert outcome == "fail" and "no validation example is left of 4 objects" in reasons[0]


def test_expected_classes_in_another_encoding_are_named(tmp_path, pictures):
    (tmp_path / "classes.txt").write_bytes("Flämisch".encode("latin-1"))
    with pytest.raises(PipelineError, match="classes.txt, line 1: the file is not in UTF-8"):
        check(tmp_path, items(pictures, EVEN), expected_classes=str(tmp_path / "classes.txt"))


def test_expected_classes_may_be_a_file(tmp_path, pictures):
    for encoding in ("utf-8", "utf-16"):
        (tmp_path / "classes.txt").write_text("Dutch\nFrench\u00a0\n", encoding=encoding)
        assert check(tmp_path, items(pictures, EVEN), expected_classes=str(tmp_path / "classes.txt")) == ("ok", [])


def test_enlarged_pictures_are_a_warning(tmp_path, pictures):
    collection = items(pictures, EVEN)
    for item in collection[:9]:
        item.columns = {"width": 100, "height": 90}
    outcome, reasons = check(tmp_path, collection)
    assert outcome == "warn" and "56% of the pictures are smaller than 128 px" in reasons[0]


def test_drift_against_an_earlier_data_set(tmp_path, pictures):
    before = assemble(tmp_path / "before", items(pictures, EVEN))
    previous = str(before.dataset / "dataset.json")
    assert check(tmp_path / "same", items(pictures, EVEN), previous_dataset=previous) == ("ok", [])
    moved = items(pictures, {"train": (14, 1), "validation": (2, 1), "test": (2, 1)})
    outcome, reasons = check(tmp_path / "moved", moved, previous_dataset=previous)
    assert outcome == "warn" and "PSI 0.64" in reasons[0]


def test_a_previous_data_set_that_is_none_is_named(tmp_path, pictures):
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(PipelineError, match="x.json is not a data set of format 1"):
        assemble(tmp_path, items(pictures, EVEN), previous_dataset=str(tmp_path / "x.json"))


def test_an_object_that_came_in_no_shard_stops_the_run(tmp_path, pictures, monkeypatch):
    import tests.helpers.image_shards as shards

    write, lost = shards.write_shard, "train-Dutch-0"
    monkeypatch.setattr(
        shards,
        "write_shard",
        lambda folder, name, part, labels: write(folder, name, [i for i in part if i.object_id != lost], labels),
    )
    outcome, reasons = check(tmp_path, items(pictures, EVEN))
    assert outcome == "fail" and "1 of 16 objects came in no shard, such as train-Dutch-0" in reasons[0]


counts = st.lists(st.integers(0, 1000), min_size=2, max_size=6).filter(any)


@given(counts, st.integers(1, 9))
def test_equal_shares_do_not_drift(before, factor):
    scaled = [count * factor for count in before]
    # Classes that are absent count as half an example on both sides, whatever the size.
    if all(before):
        assert population_stability_index(before, scaled) == pytest.approx(0, abs=1e-12)
    assert population_stability_index(before, before) == pytest.approx(0, abs=1e-12)


@given(st.data())
def test_the_index_is_symmetric_and_positive(data):
    before = data.draw(counts)
    after = data.draw(st.lists(st.integers(0, 1000), min_size=len(before), max_size=len(before)).filter(any))
    there, back = population_stability_index(before, after), population_stability_index(after, before)
    assert there == pytest.approx(back) and there >= -1e-12


def test_the_index_of_a_known_case():
    # (0.5 - 0.8) ln(0.5 / 0.8) + (0.5 - 0.2) ln(0.5 / 0.2)
    assert population_stability_index([80, 20], [50, 50]) == pytest.approx(0.41589, abs=1e-5)
