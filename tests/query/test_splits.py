"""The split, as properties: groups stay together, shares are met, nothing moves when the collection grows."""

import hashlib
import math
import random
from collections import Counter, defaultdict
from dataclasses import replace

import duckdb
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from components.artifacts.objects import SPLITS
from components.query.selection import Settings
from components.query.splits import Reassignment, assign_splits

# (group, class): what stands in a picture's row that decides on its split.
Picture = tuple[str, str]
PLAIN = Settings(source="sample")
# One database, as making one takes longer than most examples; each call has a connection and a transaction of its own.
DATABASE = duckdb.connect(config={"threads": 1})
pictures = st.lists(st.tuples(st.integers(0, 60).map(str), st.sampled_from("abcd")), min_size=1, max_size=150)
shares = st.tuples(st.sampled_from((0.05, 0.1, 0.15, 0.3)), st.sampled_from((0.1, 0.2, 0.25)))
property_test = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def splits_of(rows: list[Picture], parameters: Settings = PLAIN) -> tuple[dict[str, str], list[Reassignment]]:
    """Group -> split, and the reassignments."""
    with DATABASE.cursor() as database:  # closing it takes back what it has begun
        database.execute("BEGIN")
        database.execute(
            'CREATE TABLE chosen AS SELECT unnest($groups) AS "group", unnest($classes) AS class',
            {"groups": [group for group, _ in rows], "classes": [label for _, label in rows]},
        )
        reassignments = assign_splits(database, parameters)
        found = database.execute('SELECT "group", split FROM splits').fetchall()
    assert len(found) == len(dict(found)), "a group is in two splits"
    return dict(found), reassignments


def unit(*parts: object) -> float:
    """The hash as the docstring gives it."""
    digest = hashlib.md5(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[8:], "little") / 2**64


def by_hash(group: str, parameters: Settings) -> str:
    """The split that a group's hash alone gives it."""
    if unit(parameters.seed, "test", group) < parameters.test_fraction:
        return "test"
    of_rest = parameters.validation_fraction / (1 - parameters.test_fraction)
    return "validation" if unit(parameters.seed, "validation", group) < of_rest else "train"


def short_classes(rows: list[Picture], parameters: Settings) -> set[str]:
    """Classes that hash leaves without an object in a split."""
    wanted = {"train"} | {s for s in SPLITS[1:] if getattr(parameters, f"{s}_fraction") > 0}
    found = defaultdict(set)
    for group, label in rows:
        found[label].add(by_hash(group, parameters))
    return {label for label, present in found.items() if wanted - present}


@property_test
@given(pictures, shares, st.integers(0, 3))
def test_a_side_is_a_function_of_the_group_alone_except_for_loans(rows, fractions, seed) -> None:
    parameters = replace(PLAIN, test_fraction=fractions[0], validation_fraction=fractions[1], seed=seed)
    found, reassignments = splits_of(rows, parameters)
    assert set(found) == {group for group, _ in rows}
    lent = {reassignment.group for reassignment in reassignments}
    assert {group: split for group, split in found.items() if group not in lent} == {
        group: by_hash(group, parameters) for group in found if group not in lent
    }
    assert {reassignment.label for reassignment in reassignments} <= short_classes(rows, parameters)


@property_test
@given(pictures, pictures)
def test_no_object_changes_side_when_the_collection_grows(rows, more) -> None:
    """But for groups of classes that were so small that hash had left a split empty."""
    before, _ = splits_of(rows)
    after, _ = splits_of(rows + more)
    short = short_classes(rows, PLAIN) | short_classes(rows + more, PLAIN)
    classes = defaultdict(set)
    for group, label in rows + more:
        classes[group].add(label)
    moved = {group for group in before if after[group] != before[group]}
    assert all(classes[group] & short for group in moved)
    if not short:
        assert not moved


def test_no_object_of_a_class_of_ordinary_size_ever_changes_side() -> None:
    """1,000 groups in 4 classes, growing by a tenth twenty times."""
    rows = [(f"artist {number}", "abcd"[number % 4]) for number in range(1000)]
    before, reassignments = splits_of(rows)
    assert not reassignments
    for step in range(20):
        rows += [(f"newcomer {step}/{number}", random.Random(step).choice("abcde")) for number in range(100)]
        after, _ = splits_of(rows)
        assert all(after[group] == split for group, split in before.items() if not group.startswith("newcomer"))


@property_test
@given(pictures, st.randoms(use_true_random=False), st.sampled_from((0, 3)))
def test_the_order_of_the_rows_does_not_matter(rows, random_, folds) -> None:
    shuffled = list(rows)
    random_.shuffle(shuffled)
    parameters = replace(PLAIN, folds=folds)
    assert splits_of(rows, parameters) == splits_of(shuffled, parameters)


@property_test
@given(pictures)
def test_a_class_with_groups_to_spare_stands_on_every_side(rows) -> None:
    own = [(f"{label}/{group}", label) for group, label in rows]  # no group in two classes
    found, reassignments = splits_of(own)
    for label in {label for _, label in own}:
        groups = {group for group, other in own if other == label}
        present = {found[group] for group in groups}
        assert "train" in present
        if len(groups) >= 3:
            assert present == set(SPLITS), (label, Counter(found[group] for group in groups))


def test_shares_are_met_in_each_class_within_what_groups_allow() -> None:
    """Four standard deviations of the sum of independent groups: sqrt(p (1 - p) sum of squared sizes)."""
    rng = random.Random(7)
    rows = []
    for label, groups in (("a", 2000), ("b", 400), ("c", 60)):
        for number in range(groups):
            rows += [(f"{label}{number}", label)] * rng.choice((1, 1, 1, 2, 5))
    found, _ = splits_of(rows)
    sizes = Counter(group for group, _ in rows)
    for label in "abc":
        own = {group: size for group, size in sizes.items() if group[0] == label}
        total, squares = sum(own.values()), sum(size**2 for size in own.values())
        for split, share in (("test", 0.15), ("validation", 0.25), ("train", 0.6)):
            got = sum(size for group, size in own.items() if found[group] == split)
            assert abs(got - share * total) <= 4 * math.sqrt(share * (1 - share) * squares)


@property_test
@given(pictures, st.integers(2, 6))
def test_every_object_is_tested_in_exactly_one_fold(rows, folds) -> None:
    tested = Counter()
    for fold in range(folds):
        found, _ = splits_of(rows, replace(PLAIN, folds=folds, fold=fold))
        tested.update(group for group, split in found.items() if split == "test")
    assert tested == Counter({group: 1 for group, _ in rows})


@property_test
@given(st.lists(st.sampled_from("abc"), min_size=5, max_size=120), st.integers(2, 5))
def test_folds_of_single_objects_differ_by_at_most_one_in_each_class(labels, folds) -> None:
    rows = [(str(number), label) for number, label in enumerate(labels)]
    sizes = defaultdict(list)
    for fold in range(folds):
        parameters = replace(PLAIN, folds=folds, fold=fold)
        found, _ = splits_of(rows, parameters)
        count = Counter((label, found[group]) for group, label in rows)
        for label in set(labels):
            sizes[label].append(count[label, "test"])
            rest = labels.count(label) - count[label, "test"]
            assert abs(count[label, "validation"] - rest * 0.25 / (1 - 1 / folds)) < 1
    assert all(max(numbers) - min(numbers) <= 1 for numbers in sizes.values())


def test_folds_are_as_balanced_as_scikit_learns() -> None:
    """Against StratifiedGroupKFold on 900 pictures by 150 artists: deviation of class counts from equal folds."""
    rng = np.random.default_rng(3)
    groups = rng.choice(150, 900, p=(weights := 1 / np.arange(5, 155)) / weights.sum())
    labels = np.array(["abc"[group % 3] for group in groups])
    theirs = np.zeros(900, int)
    for fold, (_, test) in enumerate(
        StratifiedGroupKFold(5, shuffle=True, random_state=0).split(groups, labels, groups)
    ):
        theirs[test] = fold
    ours = np.zeros(900, int)
    rows = [(str(group), str(label)) for group, label in zip(groups, labels)]
    for fold in range(5):
        found, _ = splits_of(rows, replace(PLAIN, folds=5, fold=fold))
        ours[[found[group] == "test" for group, _ in rows]] = fold

    def deviation(folds: np.ndarray) -> float:
        return float(np.mean([abs(np.sum((folds == fold) & (labels == label)) - np.sum(labels == label) / 5)
                              for fold in range(5) for label in "abc"]))  # fmt: skip

    assert deviation(ours) <= 2 * deviation(theirs)


def test_the_seed_draws_another_split() -> None:
    rows = [(str(number), "ab"[number % 2]) for number in range(200)]
    first, second = splits_of(rows)[0], splits_of(rows, replace(PLAIN, seed=2))[0]
    assert 20 < sum(first[group] != second[group] for group in first) < 180
