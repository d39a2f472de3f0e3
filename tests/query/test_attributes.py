"""`pipeline.py attributes`: what could be learned, counted by hand; and the profile that a run shows."""

import re
from pathlib import Path

import pytest

from components.query import attributes
from components.query.selection import Settings
from components.query.settings import QueryError
from tests.helpers.tables import objects, run, write_csv

DATA = Path(__file__).parents[3] / "shared" / "data"


def collection(folder: Path) -> str:
    """20 objects: two cultures spelled in three ways, a period of few, a title of its own each, and an empty column."""
    rows = objects(20, ("French", " French", "Japan", "Japan "))
    rows = [
        row | {"period": "Edo" if row["object_id"] < 4 else "|", "title": f"No. {row['object_id']}", "reign": ""}
        for row in rows
    ]
    rows[0]["original_image_url"] = ""
    return write_csv(folder / "x.csv", rows)


def test_values_classes_and_pictures_are_counted(tmp_path: Path) -> None:
    found = attributes.describe(Settings(source="table", table=collection(tmp_path), min_images_per_class=3))
    assert (found.objects, found.unit, found.minimum) == (20, "pictures", 3)
    assert [item.name for item in found.items] == ["culture", "period", "title"] and found.empty == ("reign",)
    culture, period, title = found.items
    assert (culture.values, culture.objects, culture.classes, culture.covered) == (2, 20, 2, 19)
    assert culture.top == (("Japan", 10), ("French", 9))
    assert (period.values, period.objects, period.classes, period.covered) == (1, 3, 0, 0)
    assert (title.values, title.classes) == (20, 0)


def test_where_and_several_pictures_of_an_object_count(tmp_path: Path) -> None:
    table = collection(tmp_path)
    images = write_csv(
        tmp_path / "images.csv", [{"object_id": 1 + n % 5, "original_image_url": f"http://h/{n}"} for n in range(30)]
    )
    given = {"table": table, "images_table": images, "where": "object_id <= 8"}
    settings = Settings(source="table", **given, min_images_per_class=10)
    culture = next(item for item in attributes.describe(settings).items if item.name == "culture")
    assert (culture.objects, culture.classes, culture.covered) == (8, 2, 30)
    assert culture.top == (("French", 18), ("Japan", 12))


def test_the_table_fits_a_pipe_and_names_the_next_command(tmp_path: Path, capsys) -> None:
    attributes.show(Settings(source="table", table=collection(tmp_path), min_images_per_class=3))
    shown = capsys.readouterr().out
    assert "What could be learned from 20 objects" in shown and "Japan (10), French (9)" in shown
    assert "Empty everywhere: reign" in shown and "such as label=culture" in shown
    attributes.show(Settings(source="table", table=collection(tmp_path), min_images_per_class=15))
    assert "No attribute has two classes that large" in capsys.readouterr().out


def test_common_values_are_shown_whole_as_many_as_fit(tmp_path: Path, capsys, monkeypatch) -> None:
    rows = objects(60, tuple(f"a culture of a rather long name {number}"[-28:] for number in range(5)))
    attributes.show(Settings(source="table", table=write_csv(tmp_path / "x.csv", rows), min_images_per_class=3))
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line.rstrip() for line in lines if line.strip().startswith("culture")]
    assert len(row) <= 160 and row.endswith("(12)") and row.count("(12)") == 2


def test_what_attributes_does_not_apply_is_said(tmp_path: Path, capsys) -> None:
    mapping = write_csv(tmp_path / "map.csv", [{"value": "French", "class": "f"}])
    attributes.show(Settings(source="table", table=collection(tmp_path), label_split=",", label_map=mapping))
    shown = capsys.readouterr().out
    assert "Values are counted as they stand: label_split and label_map are applied by a run, not here." in shown
    attributes.show(Settings(source="table", table=collection(tmp_path)))
    assert "as they stand" not in capsys.readouterr().out


def test_the_sample_offers_several_labels() -> None:
    found = attributes.describe(Settings())
    learnable = {item.name for item in found.items if item.classes >= 2}
    assert {"culture", "period", "classification", "department", "country"} <= learnable


def test_a_missing_table_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="there is no table"):
        attributes.describe(Settings(source="table", table=str(tmp_path / "x.csv")))


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not there")
def test_the_mets_real_metadata_gives_a_sensible_table() -> None:
    folder = DATA / "met_metadata"
    settings = Settings(
        source="table", table=f"{folder}/objects.csv", images_table=f"{folder}/images.csv", min_images_per_class=50
    )
    found = attributes.describe(settings)
    items = {item.name: item for item in found.items}
    assert found.objects == 8870 and found.items[0].name == "department"
    assert items["culture"].top[0][0] == "American" and items["culture"].classes > 25
    assert items["department"].classes == 13
    assert "object_id" not in items and "link_resource" not in items


def test_the_profile_says_what_was_taken_and_where_the_rest_went(tmp_path: Path) -> None:
    cultures = ["Greek"] * 30 + ["Roman"] * 20 + ["<b>Rare</b>"] * 3 + [""] * 4 + ["Unmapped & odd"] * 2
    rows = [
        row | {"culture": culture, "artist_display_name": ""} for row, culture in zip(objects(len(cultures)), cultures)
    ]
    for row in rows[30:44]:
        row["artist_display_name"] = "Prolific"
    mapping = write_csv(
        tmp_path / "map.csv", [{"value": name, "class": name} for name in ("Greek", "Roman", "<b>Rare</b>")]
    )
    selection, _ = run(
        tmp_path, table=write_csv(tmp_path / "x.csv", rows), label_map=mapping, min_images_per_class=5,
        max_images_per_class=25, where="object_id != 1",
    )  # fmt: skip
    html = (tmp_path / "profile").read_text()
    funnel = " ".join(re.sub(r"<[^>]+>", " ", html[html.index("Where the rest went</h2>") :]).split())
    for stage in (
        "58 match where −1 do not",
        "54 have a value −4 without",
        "52 that label_map names −2 are not in it",
        "49 in a kept class −3 in classes left out",
        "45 within the cap −4 beyond",
    ):
        assert stage in funnel, stage
    for text in (
        "<title>What is there to learn: culture</title>",
        "fewer than 5 pictures",
        "Unmapped &amp; odd",
        "&lt;b&gt;Rare&lt;/b&gt;",
        "Roman: 14 of 20 pictures belong together (Prolific)",
        "What else could be learned",
        "maximum_bytes_billed",
    ):
        assert text in html, text
    assert "<b>Rare" not in html and "http://" not in html.replace("http://museum.test", "").replace(
        "http://www.w3.org", ""
    )
    assert selection.metadata() | {"train": 0, "validation": 0, "test": 0} == {
        "label": "culture", "classes": 2, "pictures": 45, "train": 0, "validation": 0, "test": 0,
        "objects_in_source": 59, "shards": 3, "without_value": 4, "unmapped": 2, "without_picture": 0,
        "not_answered": 0,
    }  # fmt: skip
    printed = str(selection)
    for text in ("1 objects do not match where", "4 objects have no value in culture", "2 objects have a value that"):
        assert text in printed, text
    assert "3 pictures are in classes left out; 4 pictures are beyond max_images_per_class" in printed


def test_each_classes_deviation_from_the_shares_is_printed(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "x.csv", objects(200))
    selection, rows = run(tmp_path, table=table)
    for label in ("French", "Japan"):
        own = [row["split"] for row in rows if row["label"] == label]
        (line,) = [text for text in str(selection).splitlines() if text.startswith(f"  {label}: 100 pictures; ")]
        for side, share in (("train", 60), ("validation", 25), ("test", 15)):
            assert f"{side} {own.count(side):.1f}% ({own.count(side) - share:+.1f})" in line
    by_fold, _ = run(tmp_path, table=table, folds=4)
    assert "test 25.0% (+0.0)" in str(by_fold)
