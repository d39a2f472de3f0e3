"""The assemble step on small collections, converted for real."""

import json

from components.shared import dataset
from tests.convert.shards import Item, assemble, drawing, stored


def collection(count: int = 24) -> list[Item]:
    splits = ("train", "train", "validation", "test")
    return [
        Item(f"{number:04d}", ("Dutch", "French")[number // 4 % 2], splits[number % 4], stored(drawing(number)))
        for number in range(count)
    ]


def read(assembled) -> dict:
    return json.loads((assembled.dataset / "dataset.json").read_text())


def test_every_example_is_read_back_with_its_label(tmp_path):
    items = collection()
    result = assemble(tmp_path, items, shards=3)
    info = dataset.load(str(result.dataset))
    found = {e.object_id: (e.label, split, e.encoded) for split in info.splits for e in dataset.read_examples(str(result.dataset), split)}
    assert found == {item.object_id: (item.label, item.split, item.jpeg) for item in items}
    assert {name: split.examples for name, split in info.splits.items()} == {"train": 12, "validation": 6, "test": 6}
    assert info.splits["train"].per_class == (6, 6)
    assert info.stored_size == 128
    assert info.check == {"outcome": "ok", "reasons": []}
