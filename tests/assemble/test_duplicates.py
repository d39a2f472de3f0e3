"""Copies are found, different paintings are not: exactness of the search, and rates on real paintings."""

import functools
import io
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from components.artifacts import dataset
from components.assemble import confirmation, duplicates, looking, search
from components.assemble.duplicates import candidate_pairs
from components.assemble.groups import Groups, Pairs, components
from components.assemble.search import close_pairs
from components.shared import hashing
from tests.helpers.image_shards import Item, assemble, drawing, jpeg, stored, thumbnail
from tests.helpers.louvre import needs_louvre, objects, paintings, photographs, picture


def recompressed(image: Image.Image) -> Image.Image:
    return Image.open(io.BytesIO(jpeg(image, quality=60)))


def resized(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)


def cropped(image: Image.Image, share: float = 0.04) -> Image.Image:
    dx, dy = round(image.width * share), round(image.height * share)
    return image.crop((dx, dy, image.width - dx, image.height - dy))


def cropped_unevenly(image: Image.Image, seed: int = 0) -> Image.Image:
    left, top, right, bottom = np.random.default_rng([seed, image.width, image.height]).uniform(0, 0.05, 4)
    w, h = image.size
    return image.crop((round(w * left), round(h * top), round(w * (1 - right)), round(h * (1 - bottom))))


def all_at_once(image: Image.Image) -> Image.Image:
    return recompressed(resized(ImageOps.mirror(cropped(image, 0.03))))


def brute_force(hashes: np.ndarray, variants: list[np.ndarray], distance: int) -> dict[tuple[int, int], int]:
    found = {}
    for variant in variants:
        for i, j in zip(*np.nonzero(np.bitwise_count(hashes[:, None] ^ variant[None, :]) <= distance)):
            if i != j:
                bits = int(np.bitwise_count(hashes[i] ^ variant[j]))
                pair = (int(min(i, j)), int(max(i, j)))
                found[pair] = min(bits, found.get(pair, 64))
    return found


@pytest.mark.parametrize("distance", [0, 3, 8])
@pytest.mark.parametrize("n", [1, 2, 300])
def test_the_search_finds_what_comparing_all_with_all_finds(n, distance):
    rng = np.random.default_rng(n)
    base = rng.integers(0, 2**64, max(n // 4, 1), dtype=np.uint64)
    # Four relatives of each hash, a few bits apart, so that there is something to find at every distance.
    flips = np.bitwise_or.reduce(np.uint64(1) << rng.integers(0, 64, (n, 2), dtype=np.uint64), axis=1)
    hashes = base[np.arange(n) % len(base)] ^ flips
    variants = [hashes, hashing.mirrored(hashes)]
    pairs, complete = close_pairs(hashes, variants, distance)
    found = {(int(a), int(b)): int(d) for a, b, d in zip(pairs.first, pairs.second, pairs.distance)}
    assert found == brute_force(hashes, variants, distance)
    assert complete and (n < 300 or distance == 0 or found)


def test_the_search_of_many_is_complete_to_distance_6(monkeypatch):
    monkeypatch.setattr(search, "MANY", 1000)
    rng = np.random.default_rng(3)
    hashes = rng.integers(0, 2**64, 5000, dtype=np.uint64)
    for k in range(1000):
        bits = rng.choice(64, 6 if k < 500 else 8, replace=False).astype(np.uint64)
        hashes[-1 - k] = hashes[k] ^ np.bitwise_or.reduce(np.uint64(1) << bits)
    pairs, _ = close_pairs(hashes, [hashes], 8)
    found = set(zip(pairs.first.tolist(), pairs.second.tolist()))
    met = [(k, len(hashes) - 1 - k) in found for k in range(1000)]
    assert all(met[:500])
    assert 0.8 < np.mean(met[500:]) < 1


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40))
@settings(deadline=None)
def test_components_are_those_of_the_graph(edges):
    first, second = (np.array([edge[k] for edge in edges], np.int64) for k in (0, 1))
    roots = components(Pairs(first, second, np.zeros(len(edges), np.int64)), 31)
    neighbours = {k: {k} for k in range(31)}
    for one, other in edges:
        merged = neighbours[one] | neighbours[other]
        for k in merged:
            neighbours[k] = merged
    assert roots.tolist() == [min(neighbours[k]) for k in range(31)]


def test_the_hash_of_a_mirrored_picture_is_the_mirrored_hash():
    lumas = hashing.lumas([thumbnail(stored(drawing(seed))) for seed in range(50)])
    flipped = hashing.perceptual_hashes(lumas[:, :, ::-1])
    bits = np.bitwise_count(flipped ^ hashing.mirrored(hashing.perceptual_hashes(lumas)))
    # A coefficient that is almost zero may fall on either side.
    assert bits.max() <= 1 and bits.mean() < 0.1


def test_copies_in_several_splits_leave_the_one_in_test(tmp_path):
    image = drawing(1)
    copies = [
        Item("a", "Dutch", "train", stored(image)),
        Item("b", "Dutch", "validation", stored(ImageOps.mirror(image))),
        Item("c", "Dutch", "test", stored(recompressed(image))),
        Item("d", "Dutch", "train", stored(image)),
    ]
    others = [
        Item(f"o{k}", ("Dutch", "French")[k % 2], ("train", "test")[k // 2 % 2], stored(drawing(k)))
        for k in range(5, 13)
    ]
    result = assemble(tmp_path, copies + others)
    info = dataset.load(str(result.dataset))
    assert {(row["object_id"], row["reason"], row["of"]) for row in info.excluded} == {
        ("a", "near_duplicate", "c"),
        ("b", "near_duplicate", "c"),
        ("d", "near_duplicate", "c"),
    }
    assert [e.object_id for e in dataset.read_examples(str(result.dataset), "test") if e.object_id in "abcd"] == ["c"]


def test_distance_minus_one_looks_for_equal_files_only(tmp_path):
    image = drawing(1)
    pictures = {"a": stored(image), "b": stored(image), "c": stored(ImageOps.mirror(image)), "d": stored(drawing(2))}
    items = [Item(name, "Dutch", "train", data) for name, data in pictures.items()]
    result = assemble(tmp_path, items, duplicate_distance=-1)
    assert [(row["object_id"], row["reason"]) for row in dataset.load(str(result.dataset)).excluded] == [
        ("b", "duplicate")
    ]


@needs_louvre
@pytest.mark.parametrize(
    "change, least",
    [
        (recompressed, 1.0),
        (resized, 1.0),
        (ImageOps.mirror, 1.0),
        (cropped, 0.95),
        (cropped_unevenly, 0.87),
        (all_at_once, 0.94),
    ],
)
def test_copies_of_paintings_are_found(change, least):
    """Of the first 300 paintings are found: 1.00, 1.00, 1.00, 0.99, 0.91, 0.97."""
    assert found_share([path for _, _, path in paintings(100)], change) >= least


@needs_louvre
@pytest.mark.parametrize(
    "change, least",
    [
        pytest.param(recompressed, 1.0, marks=pytest.mark.slow),
        pytest.param(resized, 1.0, marks=pytest.mark.slow),
        pytest.param(ImageOps.mirror, 1.0, marks=pytest.mark.slow),
        pytest.param(cropped, 0.95, marks=pytest.mark.slow),
        pytest.param(cropped_unevenly, 0.94, marks=pytest.mark.slow),
        (all_at_once, 0.95),
    ],
)
def test_copies_are_found_in_collections_for_which_nothing_was_chosen(change, least):
    """Of 153 objects of The Met and 209 photographs are found: 1.00, 1.00, 1.00, 0.98, 0.97, 0.98."""
    assert found_share([*objects(), *photographs()[::8]], change) >= least


def found_share(paths: list[Path], change) -> float:
    found = []
    for path in paths:
        image, small, detail = original(path)
        copy = stored(change(image))
        lumas = hashing.lumas([small, thumbnail(copy)])
        close = len(candidate_pairs(lumas, 8)[0]) > 0
        found.append(close and confirmation.agreement(detail, confirmation.detail(copy)) >= confirmation.SAME)
    return float(np.mean(found))


@functools.cache
def original(path: Path) -> tuple:
    """The picture, and thumbnail and detail of it as it is stored."""
    image = picture(path)
    data = stored(image)
    return image, thumbnail(data), confirmation.detail(data)


def confirmed(paths: list[Path]) -> tuple[int, set[tuple[str, str]]]:
    """Number of candidates among pictures, and names of those that are taken for copies."""
    pictures = [stored(picture(path)) for path in paths]
    candidates, _ = candidate_pairs(hashing.lumas([thumbnail(data) for data in pictures]), 8)
    details = np.stack([confirmation.detail(data) for data in pictures])
    same = confirmation.agreements(details, candidates.first, candidates.second) >= confirmation.SAME
    names = [f"{path.parent.name}/{path.name}" for path in paths]
    return len(candidates), {(names[i], names[j]) for i, j in zip(candidates.first[same], candidates.second[same])}


@needs_louvre
def test_different_paintings_are_not_taken_for_copies():
    """1,150 paintings, series and repetitions by their own painter among them: none is taken for another."""
    candidates, copies = confirmed([path for _, _, path in paintings()])
    assert candidates > 20, "without pairs that look alike this would test nothing"
    assert not copies


@needs_louvre
def test_of_other_collections_few_pictures_are_taken_for_copies():
    """The threshold was chosen on the Louvre's paintings. Held out: of 153 objects of The Met no two are taken for
    copies; of 1,670 photographs four pairs, of which two are mirrored copies indeed and two show one face in one
    place, photographed twice."""
    assert confirmed(objects())[1] == set()
    candidates, copies = confirmed(photographs())
    assert candidates > 20
    houses = {pair for pair in copies if pair[0].startswith("house/")}
    assert len(houses) == 2 and len(copies - houses) <= 2
    assert all(one.startswith("person/") and other.startswith("person/") for one, other in copies - houses)


@pytest.mark.slow
def test_thousands_of_copies_of_one_picture_do_not_explode(tmp_path):
    """3,000 re-encoded placeholders have 4.5 million pairs; the one in test stays. 1,250 of 1,500 blank ones are equal
    files."""
    command = [sys.executable, "-m", "tests.helpers.crowd", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["examples"] == {"train": 20 + 250, "validation": 0, "test": 1}
    assert found["megabytes"] < 600


def two_lookalikes() -> list[Item]:
    """Pairs of different pictures whose hashes and thumbnails agree: one within a split, one across."""
    pictures = {"a": drawing(1), "b": drawing(2)}
    found = []
    for name, image in pictures.items():
        for k, split in enumerate(("train", "train" if name == "a" else "test")):
            noise = np.random.default_rng(k).normal(0, 30, (128, 160, 3))
            pixels = (np.asarray(image, np.float32) + noise).clip(0, 255).astype(np.uint8)
            found.append(Item(f"{name}{k}", "Dutch", split, stored(Image.fromarray(pixels))))
    return found + [Item(f"o{k}", "French", "test", stored(drawing(k))) for k in range(5, 9)]


@pytest.mark.parametrize("most, left", [(0, 2), (1, 1), (2, 0)])
def test_pairs_beyond_what_is_looked_at_are_a_warning_and_those_across_splits_go_first(
    tmp_path, monkeypatch, most, left
):
    monkeypatch.setattr(duplicates, "MOST_LOOKED_AT", most)
    looked, equal = [], looking.Looker.equal
    monkeypatch.setattr(
        looking.Looker, "equal", lambda self, *pairs: looked.extend(zip(*map(list, pairs))) or equal(self, *pairs)
    )
    result = assemble(tmp_path, two_lookalikes())
    reasons = [reason for reason in result.summary.check.reasons if "unconfirmed" in reason]
    assert [reason.split(" pairs")[0] for reason in reasons] == ([str(left)] if left else [])
    assert looked == [(2, 3), (0, 1)][:most]


def test_a_connected_pair_is_not_looked_at():
    groups = Groups(6)
    groups.join(Pairs(np.array([0, 1]), np.array([1, 2]), np.zeros(2)))
    pairs = Pairs(np.array([0, 2, 3, 3, 0]), np.array([2, 3, 4, 5, 4]), np.zeros(5))
    assert groups.apart(pairs).tolist() == [False, True, True, True, True]
    # 2-3, 3-4 and 3-5 connect everything: 0-4 would close a circle.
    assert groups.forest(pairs, 9).tolist() == [1, 2, 3]
    assert groups.forest(pairs, 2).tolist() == [1, 2]


def test_processes_see_what_one_process_sees(tmp_path, monkeypatch):
    result = assemble(tmp_path, two_lookalikes(), duplicate_distance=-1)
    rows = pq.read_table(result.dataset / "examples.parquet")
    first, second = (np.array(side) for side in zip(*itertools.combinations(range(len(rows)), 2)))
    with looking.Looker(rows) as looker:
        alone = looker.equal(first, second)
    monkeypatch.setattr(looking, "_FEW", 1)
    monkeypatch.setattr(looking, "_CHUNK", 5)
    with looking.Looker(rows) as looker:
        assert looker.equal(first, second).tolist() == alone.tolist()
