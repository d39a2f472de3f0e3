"""Small collections for the assemble step, and what it made of them."""

from PIL import ImageOps

from components.artifacts import dataset
from tests.helpers.image_shards import Item, drawing, stored


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


def examples_of(assembled) -> dict[str, tuple]:
    info = dataset.load(str(assembled.dataset))
    return {
        example.object_id: (example.label, split, example.encoded)
        for split in info.splits
        for example in dataset.read_examples(str(assembled.dataset), split)
    }
