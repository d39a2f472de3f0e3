"""Planted wrong labels come up among the suspects."""

import numpy as np
from PIL import Image, ImageDraw

from components.assemble import mislabels
from tests.helpers.image_shards import Item, assemble, drawing, stored
from tests.helpers.louvre import needs_louvre, paintings, picture


def test_leave_one_out_scores_equal_those_of_leaving_each_one_out():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(40, 6)).astype(np.float32), rng.integers(0, 3, 40)
    mapped = mislabels._kernel_map(features)
    targets = np.where(labels[:, None] == np.arange(3), 1.0, -1.0)
    expected = []
    for k in range(40):
        rest = np.arange(40) != k
        gram = mapped[rest].T @ mapped[rest] + np.eye(mapped.shape[1])
        expected.append(mapped[k] @ np.linalg.solve(gram, mapped[rest].T @ targets[rest]))
    np.testing.assert_allclose(mislabels.leave_one_out_scores(features, labels, 3), expected, atol=1e-5)


def striped(seed: int, upright: bool) -> Image.Image:
    """Stripes over a drawing: two classes that differ in outlines, not in colours."""
    image = drawing(seed)
    draw = ImageDraw.Draw(image)
    for offset in range(seed % 12, max(image.size), 14):
        line = (offset, 0, offset, image.height) if upright else (0, offset, image.width, offset)
        draw.line(line, fill=(20, 20, 20), width=4)
    return image


def test_a_picture_of_the_other_class_is_the_first_suspect(tmp_path):
    items = [Item(f"{k:03d}", ("flat", "upright")[k % 2], "train", stored(striped(k, k % 2 == 1))) for k in range(60)]
    items[10].label = "upright"
    result = assemble(tmp_path, items)
    html = result.report.read_text()
    section = html[html.index("Suspected wrong labels</h2>") :]
    assert section.index("Title of 010") == section.index("Title of ")
    assert section.index("looks like flat") < section.index("Title of 010")


def test_one_class_raises_no_suspicion(tmp_path):
    items = [Item(f"{k}", "Dutch", "train", stored(drawing(k))) for k in range(5)]
    assert "Suspected" not in assemble(tmp_path, items).report.read_text()


@needs_louvre
def test_planted_wrong_labels_and_a_duplicate_in_louvre_are_shown(tmp_path):
    """Of 20 wrong labels among 500 paintings about 15 are among the 48 suspects; chance would show 1."""
    rng = np.random.default_rng(4)
    rows = paintings(500)
    items = [Item(object_id, label, "train", stored(picture(path))) for object_id, label, path in rows]
    labels = sorted({item.label for item in items})
    planted = rng.choice(np.arange(1, 500), 20, replace=False)
    for k in planted:
        items[k].label = rng.choice([label for label in labels if label != items[k].label])
    items.append(Item("copy", items[0].label, "test", stored(picture(rows[0][2]).resize((200, 200)), quality=60)))
    html = assemble(tmp_path, items).report.read_text()
    suspects = html[html.index("Suspected wrong labels</h2>") : html.index("Sizes</h2>")]
    copies = html[html.index("Duplicates</h2>") : html.index("Suspected wrong labels</h2>")]
    assert f"Title of {items[0].object_id}" in copies and "Title of copy" in copies
    found = sum(f"Title of {items[k].object_id}<" in suspects.replace("\n", "<") for k in planted)
    assert found >= 11
