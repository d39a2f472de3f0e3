"""Splits that a collection brings along: columns, folders, what is missing, and leaks between them."""

from collections import Counter
from pathlib import Path

import pytest

from components.query.settings import QueryError
from components.shared.parameters import ParameterError
from tests.helpers.tables import objects, run, write_csv

WORDS = {"train": "train", "Training": "train", "VAL": "validation", "valid": "validation", "dev": "validation"}
WORDS |= {"validation": "validation", "test": "test", "Testing": "test"}


def table(folder: Path, values: tuple[str, ...], number: int = 80, name: str = "split", artists: int = 0) -> str:
    """Objects whose `name` is one of `values` in turn; each of some artists, or of its own."""
    rows = [
        row | {name: values[(n // 2) % len(values)]} | ({"artist_display_name": f"A{n % artists}"} if artists else {})
        for n, row in enumerate(objects(number))
    ]
    return write_csv(folder / "x.csv", rows)


def test_a_column_split_is_taken_as_it_is_in_the_words_that_people_use(tmp_path: Path) -> None:
    selection, rows = run(tmp_path, table=table(tmp_path, tuple(WORDS)))
    expected = {str(n + 1): list(WORDS.values())[(n // 2) % len(WORDS)] for n in range(80)}
    assert {row["object_id"]: row["split"] for row in rows} == expected
    assert "the column split gives test, train, validation" in str(selection)
    assert abs(selection.deviation("French", "test")) < 1e-9, "against the given shares"


@pytest.mark.parametrize("values, given", [(("train", "test"), "test"), (("train", "val"), "validation")])
def test_what_is_missing_is_split_off_train(tmp_path: Path, values: tuple[str, ...], given: str) -> None:
    path = table(tmp_path, values, 400)
    selection, rows = run(tmp_path, table=path)
    assert {row["object_id"] for row in rows if row["split"] == given} == {str(n + 1) for n in range(400) if n // 2 % 2}
    counts = Counter(row["split"] for row in rows)
    missing = "validation" if given == "test" else "test"
    assert counts[given] == 200 and 15 <= counts[missing] <= 80 and counts["train"] == 200 - counts[missing]
    assert f"gives {', '.join(sorted({'train', given}))}; {missing} are split off" in str(selection)
    assert run(tmp_path, table=path)[1] == rows
    ignored = Counter(row["split"] for row in run(tmp_path, table=path, split_given="none")[1])
    assert ignored["train"] > 200


def test_an_object_without_a_value_belongs_to_train(tmp_path: Path) -> None:
    _, rows = run(tmp_path, table=table(tmp_path, ("test", "", "val")))
    sides = {row["object_id"]: row["split"] for row in rows}
    assert {sides[str(n + 1)] for n in range(80) if (n // 2) % 3 == 1} == {"train"}


def test_other_columns_and_numbers_by_a_map(tmp_path: Path) -> None:
    path = table(tmp_path, ("0", "1", "2"), name="subset")
    _, rows = run(tmp_path, table=path, columns="split=subset", split_given="0=train, 1=validation,2=test")
    assert {row["split"] for row in rows if (int(row["object_id"]) - 1) // 2 % 3 == 2} == {"test"}
    with pytest.raises(
        QueryError, match="values that are no split, such as '0', '1', '2': say what they mean.*0=train"
    ):
        run(tmp_path, table=path, columns="split=subset")
    with pytest.raises(QueryError, match="folds=5: the column split says already what is tested; split_given=none"):
        run(tmp_path, table=table(tmp_path, ("train", "test")), folds=5)
    with pytest.raises(QueryError, match="leaves nothing to train on"):
        run(tmp_path, table=table(tmp_path, ("val", "test")))
    for wrong in ("0", "0=learn", "=train", ""):
        with pytest.raises(ParameterError, match="split_given="):
            run(tmp_path, table=path, split_given=wrong)
    with pytest.raises(ParameterError, match="split_leaks=drop"):
        run(tmp_path, table=path, split_leaks="drop")


def test_leaks_between_given_splits_are_reported_and_removed_if_the_user_lets_them(tmp_path: Path) -> None:
    path = table(tmp_path, ("train", "train", "test"), 90, artists=7)
    selection, rows = run(tmp_path, table=path)
    assert "groups (artist_display_name), such as A" in str(selection) and "split_leaks=remove" in str(selection)
    _, cleaned = run(tmp_path, table=path, split_leaks="remove")
    tested = {row["group"] for row in cleaned if row["split"] == "test"}
    assert tested and not tested & {row["group"] for row in cleaned if row["split"] != "test"}
    assert [row for row in cleaned if row["split"] == "test"] == [row for row in rows if row["split"] == "test"]


def test_folders_train_and_test_are_no_classes(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for side, number in (("train", 20), ("Val", 4), ("test", 3)):
        for label in ("cat", "dog"):
            (root / side / label).mkdir(parents=True)
            for n in range(number):
                (root / side / label / f"{n}.jpg").write_bytes(b"x")
    (root / "test" / "unknown.jpg").write_bytes(b"x")
    selection, rows = run(tmp_path, source="folder", table=str(root), label="")
    assert selection.labels == ["cat", "dog"] and selection.counts.no_label == 1
    assert Counter(row["split"] for row in rows) == {"train": 40, "validation": 8, "test": 6}
    assert run(tmp_path, source="folder", table=str(root), label="", split_given="none")[0].labels == [
        "Val",
        "test",
        "train",
    ]
    assert run(tmp_path, source="folder", table=str(root), label="parent")[0].labels == ["cat", "dog"]


def test_a_class_train_beside_others_is_a_class(tmp_path: Path) -> None:
    for label in ("train", "bus", "test"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        (tmp_path / "photos" / label / "1.jpg").write_bytes(b"x")
    assert run(tmp_path, source="folder", table=str(tmp_path / "photos"), label="")[0].labels == [
        "bus",
        "test",
        "train",
    ]
