"""The sample museum: what the other stages and the reader of the reports may expect of it."""

import hashlib
import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from components.shared import sample
from components.shared.errors import PipelineError

ROWS = sample.rows(1)


def _pixels(row: dict, side: int) -> np.ndarray | None:
    try:
        image = Image.open(io.BytesIO(sample.picture(f"sample:1/{row['object_id']}"))).convert("RGB")
    except (UnidentifiedImageError, OSError):
        return None
    return np.asarray(image.resize((side, side), Image.Resampling.BOX), np.float32) / 255


def test_records_have_the_columns_and_types_of_the_met() -> None:
    assert all(tuple(row) == sample.COLUMNS for row in ROWS) and len(sample.COLUMNS) == 43
    numbers, flags = ("object_id", "object_begin_date", "object_end_date"), ("is_highlight", "is_public_domain")
    for row in ROWS:
        for name, value in row.items():
            assert type(value) is (int if name in numbers else bool if name in flags else str), (name, value)
    assert len({row["object_id"] for row in ROWS}) == len(ROWS) == 601


def test_several_labels_can_be_learned() -> None:
    cultures = Counter(row["culture"] for row in ROWS)
    assert set(cultures) == set(sample.CULTURES) and min(cultures.values()) >= 110
    assert len(Counter(row["period"] for row in ROWS)) == 3
    assert len(Counter(row["classification"] for row in ROWS)) == 6
    artists = {(row["artist_display_name"], row["artist_nationality"]) for row in ROWS if row["artist_display_name"]}
    assert len(artists) == len({name for name, _ in artists}) > 100
    assert min(Counter(nationality for _, nationality in artists).values()) >= 20


def test_the_same_seed_gives_the_same_museum_and_another_seed_another_one() -> None:
    uri = f"sample:1/{ROWS[7]['object_id']}"
    data = sample.picture(uri)
    sample._museum.cache_clear()
    assert sample.rows(1) == ROWS and sample.picture(uri) == data
    assert sample.rows(2) != ROWS and sample.picture(uri.replace(":1/", ":2/")) != data


def test_callers_cannot_change_the_museum() -> None:
    sample.rows(1)[0]["culture"] = "changed"
    assert sample.rows(1) == ROWS


@pytest.mark.slow
def test_five_files_are_no_pictures_and_six_are_copies() -> None:
    digests, broken = Counter(), 0
    for row in ROWS:
        data = sample.picture(f"sample:1/{row['object_id']}")
        try:
            Image.open(io.BytesIO(data)).load()
        except (UnidentifiedImageError, OSError):
            broken += 1
            continue
        digests[hashlib.sha256(data).digest()] += 1
    assert broken == len(sample.BROKEN)
    exact = sum(kind in ("same", "other culture") for kind in sample.DUPLICATES)
    assert sum(number - 1 for number in digests.values()) == exact


def test_pictures_are_of_a_museum_photographs_size() -> None:
    sizes = [Image.open(io.BytesIO(sample.picture(f"sample:1/{row['object_id']}"))).size for row in ROWS[:60]]
    assert all(300 <= side <= 500 for size in sizes for side in size) and len(set(sizes)) > 30


def test_a_linear_model_on_raw_pixels_does_not_learn_the_culture() -> None:
    """Texture decides, not colour, outline or position: logistic regression on 32 x 32 pixels."""
    pixels = [(_pixels(row, 32), row["culture"]) for row in ROWS]
    features = np.stack([array.ravel() for array, _ in pixels if array is not None])
    cultures = [culture for array, culture in pixels if array is not None]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=40, tol=1e-2))
    with threadpool_limits(1):
        accuracy = model.fit(features[:450], cultures[:450]).score(features[450:], cultures[450:])
        learned = model.score(features[:450], cultures[:450])
    assert accuracy < 0.6 < learned


@pytest.mark.parametrize("uri", ["sample:1/999999", "sample:1/../x", "sample:x/1001", "file:1/1001", "sample:1"])
def test_an_unknown_address_is_an_error_of_one_line(uri: str) -> None:
    with pytest.raises(PipelineError, match="sample"):
        sample.picture(uri)
