"""The data report: what it says, and that it stays usable at 500 classes."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.assemble import funnel
from tests.helpers.image_shards import Item, assemble, drawing, stored
from tests.helpers.small_collections import collection, doubtful


@pytest.fixture(scope="module")
def html(tmp_path_factory) -> str:
    items = doubtful()
    items[1].columns = {
        "title": "<b>Night</b> Watch",
        "rights": "CC0",
        "link": "https://example.org/1",
        "artist": "Rembrandt",
        "credit": "Gift of <i>A. B.</i>, 1931",
    }
    items[2].columns = {"link": "javascript:alert(1)"}
    return assemble(tmp_path_factory.mktemp("reported"), items, shards=2).report.read_text()


def section(html: str, heading: str) -> str:
    return html[html.index(f"{heading}</h2>") :].split("</section>")[0]


def test_the_funnel_says_where_the_objects_went(html):
    text = re.sub(r"<[^>]+>", " ", section(html, "From collection to examples"))
    assert re.search(r"25\s+objects selected", text) and re.search(r"24\s+with a good picture", text)
    assert re.search(r"−1\s+not found", text) and re.search(r"−2\s+equal pictures with different labels", text)


def test_doubtful_pictures_stand_side_by_side(html):
    assert section(html, "Conflicting labels").count("<img") == 2
    assert "Dutch or French?" in section(html, "Conflicting labels").replace("French or Dutch", "Dutch or French")
    assert section(html, "Duplicates").count("<img") == 2
    assert "test, kept" in section(html, "Duplicates") and "training, left out" in section(html, "Duplicates")


def test_titles_are_escaped_and_links_lead_to_the_web_only(html):
    assert "&lt;b&gt;Night&lt;/b&gt; Watch" in html and "<b>Night" not in html
    assert 'href="https://example.org/1"' in html and "javascript:" not in html


def test_each_picture_says_whom_it_is_owed_to(html):
    assert "· Rembrandt. Gift of &lt;i&gt;A. B.&lt;/i&gt;, 1931. CC0" in html and "<i>A. B." not in html


def test_rights_sources_parameters_and_snapshot_are_there(html):
    text = section(html, "Rights and sources")
    assert "CC0" in text and "not stated" in text and "example.org" in text and "Rembrandt" in text
    assert all(name in section(html, "Parameters") for name in ("duplicate_distance", "image_size", "jpeg_quality"))
    assert re.search("Snapshot [0-9a-f]{64}", html)


def test_each_class_has_its_pictures(html):
    gallery = section(html, "Pictures")
    assert [gallery.count(f'data-name="{name}"') for name in ("dutch", "french")] == [1, 1]
    assert gallery.count("<img") == 21


@pytest.mark.parametrize("reason, outcome", [({"min_eval_examples_per_class": 9}, "warn"), ({}, "ok")])
def test_the_outcome_of_the_check_is_shown(tmp_path, reason, outcome):
    text = section(assemble(tmp_path, collection(), **reason).report.read_text(), "Check")
    assert f'class="notice {outcome}"' in text


@pytest.mark.slow
def test_500_classes_stay_below_15_megabytes_and_can_be_searched(tmp_path):
    pictures = [stored(drawing(seed)) for seed in range(50)]
    splits = ("train", "train", "validation", "test")
    # Something behind the end of a JPEG makes it another file, which is all that distance -1 asks for.
    jpegs = [pictures[k % 50] + b"%d" % k for k in range(2000)]
    items = [Item(f"{k:05d}", f"Class {k // 4:03d}", splits[k % 4], jpeg) for k, jpeg in enumerate(jpegs)]
    result = assemble(tmp_path, items, shards=2, duplicate_distance=-1)
    assert result.summary.examples["train"] == 1000
    page = result.report.read_text()
    assert len(page) < 15_000_000
    assert section(page, "Pictures").count("<article") == 500
    assert section(page, "Pictures").count("<img") == 4 * 500
    assert 'class="finder"' in section(page, "Pictures")


def test_sizes_are_counted_in_bins():
    table = pa.table(
        {
            "original_width": [100, 300, 500, 9000, None],
            "original_height": [90, 600, 500, 5000, None],
            "kept": [True] * 4 + [False],
        }
    )
    sides, shapes = funnel.sizes(table, 128)
    assert [(label, count, kind) for label, count, kind in sides if count] == [
        ("≥ 64", 1, "warn"), ("≥ 224", 1, ""), ("≥ 480", 1, ""), ("≥ 4096", 1, "")]  # fmt: skip
    assert sum(count for _, count, _ in shapes) == 4
    marked = [(label, count) for label, count, kind in funnel.sizes(table, 301)[0] if count and kind]
    assert marked == [("≥ 64", 1), ("≥ 224", 1)]
    assert ("≥ 301", 0, "") in funnel.sizes(table, 301)[0]


def test_the_merged_index_has_every_object_and_why_it_went(tmp_path):
    result = assemble(tmp_path, doubtful())
    rows = pq.read_table(result.dataset / "examples.parquet").to_pylist()
    reasons = {row["object_id"]: row["reason"] for row in rows if not row["kept"]}
    assert reasons == {"0000": "near_duplicate", "0004": "conflict", "0009": "conflict", "gone": "not_found"}
    assert np.count_nonzero([row["kept"] for row in rows]) == 21
