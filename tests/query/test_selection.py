"""From a table to objects.parquet: columns, labels, classes, pictures, and what goes wrong."""

import random
import sys
from dataclasses import asdict
from pathlib import Path

import duckdb
import pyarrow.parquet
import pytest

from components.query.selection import Settings
from components.query.settings import QueryError
from components.query.source import open_source
from components.shared.errors import PipelineError
from tests.helpers.tables import NO_LIMITS, objects, run, write_csv


def test_the_sample_gives_the_columns_that_the_other_stages_read(tmp_path: Path) -> None:
    selection, rows = run(
        tmp_path, source="sample", label="", slices="period,nonsense,department", min_images_per_class=10
    )
    schema = pyarrow.parquet.read_schema(tmp_path / "objects")
    assert schema.names == (
        "object_id label label_index split shard image_uri group title artist rights credit link "
        "meta_period meta_department".split()
    )
    assert str(schema.field("label_index").type) == str(schema.field("shard").type) == "int32"
    assert (tmp_path / "labels").read_text() == "Keldric\nMaruvan\nSolari\nTahari\nVerdane\n"
    assert len(rows) == 601 and selection.labels[rows[0]["label_index"]] == rows[0]["label"]
    assert rows == sorted(rows, key=lambda row: (row["shard"], row["object_id"]))
    assert selection.shards == ("00000-of-00003", "00001-of-00003", "00002-of-00003")
    assert all(row["group"] == (row["artist"] or row["object_id"]) for row in rows)
    assert "<!doctype html>" in (tmp_path / "profile").read_text()[:50].lower()
    assert selection.metadata()["pictures"] == 601


def test_pictures_come_from_a_second_table_and_further_ones_get_a_suffix(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "objects.csv", [{"object_id": f"{n:03d}", "culture": "ab"[n % 2]} for n in range(6)])
    addresses = [
        ("000", "x/2.jpg", "true"),
        ("000", "x/1.jpg", ""),
        ("000", "x/1.jpg", ""),
        ("001", "/y.jpg", ""),
        ("002", "", ""),
    ]
    addresses += [("003", "https://elsewhere.test/3.jpg", ""), ("004", "./4 a.jpg", ""), ("009", "9.jpg", "")]
    images = write_csv(
        tmp_path / "images.csv",
        [{"object_id": key, "original_image_url": address, "is_primary": first} for key, address, first in addresses],
    )
    selection, rows = run(tmp_path, table=table, images_table=images, image_base="http://museum.test/pictures/")
    assert {row["object_id"]: row["image_uri"] for row in rows} == {
        "000": "http://museum.test/pictures/x/2.jpg",
        "000-1": "http://museum.test/pictures/x/1.jpg",
        "001": "http://museum.test/pictures/y.jpg",
        "003": "https://elsewhere.test/3.jpg",
        "004": "http://museum.test/pictures/4 a.jpg",
    }
    assert {row["group"] for row in rows if row["object_id"].startswith("000")} == {"000"}
    assert selection.without_picture == 2


def test_relative_addresses_without_a_base_start_at_the_folder_of_their_table(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "a").mkdir()
    rows = [row | {"original_image_url": f"images/{row['object_id']}.jpg"} for row in objects(4)]
    write_csv(tmp_path / "a" / "objects.csv", rows)
    monkeypatch.chdir(tmp_path)
    _, found = run(tmp_path, table="a/objects.csv")
    assert found[0]["image_uri"].startswith(f"{tmp_path}/a/images/")


def test_columns_may_have_other_names_and_ids_any_characters(tmp_path: Path) -> None:
    table = write_csv(
        tmp_path / "x.csv",
        [
            {"Id": key, "url": f"http://h/{n}", "Kind": "ab"[n % 2]}
            for n, key in enumerate(["a/b", "a b", "a.b", "é" * 200, "ok_1"])
        ],
    )
    _, rows = run(tmp_path, table=table, columns="object_id=Id, original_image_url=url", label="kind")
    ids = [row["object_id"] for row in rows]
    assert len(set(ids)) == 5 and "ok_1" in ids
    assert all(set(key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") for key in ids)
    assert max(map(len, ids)) < 100


def test_a_further_picture_never_takes_the_id_of_another_object(tmp_path: Path) -> None:
    rows = objects(4) + [{"object_id": "1", "culture": "French", "original_image_url": "http://museum.test/z.jpg"}]
    rows.append({"object_id": "1-1", "culture": "French", "original_image_url": "http://museum.test/other.jpg"})
    _, found = run(tmp_path, table=write_csv(tmp_path / "x.csv", rows))
    assert len({row["object_id"] for row in found}) == len(found) == 6
    assert {row["image_uri"] for row in found if row["object_id"] == "1-1"} == {"http://museum.test/other.jpg"}


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv.gz", "tsv"])
def test_every_format_gives_the_same_objects(tmp_path: Path, kind: str) -> None:
    table = write_csv(tmp_path / "t.csv", objects(30))
    _, expected = run(tmp_path, table=table)
    options = {
        "jsonl": "FORMAT json",
        "parquet": "FORMAT parquet",
        "csv.gz": "COMPRESSION gzip",
        "tsv": "DELIMITER '\t'",
    }
    other = tmp_path / f"t.{kind}"
    with duckdb.connect() as database:
        database.execute(f"COPY (FROM '{table}') TO '{other}' ({options[kind]})")
    assert run(tmp_path, table=str(other), where="object_id <= 30")[1] == expected


def test_label_map_and_split_group_values_and_count_the_rest(tmp_path: Path) -> None:
    values = [
        "French, Paris",
        "French, Lyon",
        " french ",
        "Japan",
        "Japan,  Edo",
        "",
        "  ",
        "Peru",
        "Cafe\u0301",
        "Café",
    ]
    rows = [row | {"culture": value} for row, value in zip(objects(len(values)), values)]
    table = write_csv(tmp_path / "x.csv", rows)
    mapping = tmp_path / "map.csv"
    mapping.write_text(
        'value,class\n"French, Paris",Parisian\nFrench,French\nJapan,Japanese\nCafé,Coffee\n', encoding="utf-8"
    )
    selection, found = run(tmp_path, table=table, label_map=str(mapping), label_split=",")
    assert selection.labels == ["Coffee", "French", "Japanese", "Parisian"]
    assert {row["object_id"]: row["label"] for row in found} == {
        "1": "Parisian", "2": "French", "4": "Japanese", "5": "Japanese", "9": "Coffee", "10": "Coffee",
    }  # fmt: skip
    assert (selection.counts.no_label, selection.counts.unmapped) == (2, 2)
    split_only, _ = run(tmp_path, table=table, label_split=",")
    assert split_only.labels == sorted(["Café", "French", "Japan", "Peru", "french"])


def test_classes_below_the_minimum_or_beyond_the_largest_are_left_out(tmp_path: Path) -> None:
    cultures = ["a"] * 12 + ["b"] * 9 + ["c"] * 5 + ["d"] * 2
    rows = [row | {"culture": culture} for row, culture in zip(objects(len(cultures)), cultures)]
    selection, found = run(
        tmp_path,
        table=write_csv(tmp_path / "x.csv", rows),
        min_images_per_class=3,
        max_classes=2,
        max_images_per_class=10,
    )
    assert [(item.name, item.pictures, item.left_out) for item in selection.classes] == [
        ("a", 12, ""),
        ("b", 9, ""),
        ("c", 5, "not among the largest 2"),
        ("d", 2, "fewer than 3 pictures"),
    ]
    assert len(found) == 19 and selection.capped == 2


def test_the_cap_keeps_the_same_objects_when_others_are_added(tmp_path: Path) -> None:
    few, many = objects(60), objects(64)
    kept = []
    for rows in (few, many):
        random.Random(len(rows)).shuffle(rows)
        _, found = run(tmp_path, table=write_csv(tmp_path / "x.csv", rows), max_images_per_class=10)
        kept.append({row["object_id"] for row in found})
    assert len(kept[0]) == 20 and len(kept[0] & kept[1]) >= 16


def test_an_object_that_occurs_twice_counts_once_and_not_at_all_with_two_labels(tmp_path: Path) -> None:
    rows = objects(10)
    rows += [rows[0], rows[1] | {"culture": "French"}]
    selection, found = run(tmp_path, table=write_csv(tmp_path / "x.csv", rows))
    assert len(found) == 9 and "2" not in {row["object_id"] for row in found}
    assert (selection.counts.repeated, selection.counts.ambiguous) == (2, 1)


def test_the_artist_is_the_group_unless_it_is_the_label_or_unknown(tmp_path: Path) -> None:
    artists = ["Ann", "Ann", "Bo", "Bo", "Unknown artist", "unidentified", "", "Unknowable Smith"]
    rows = [row | {"artist_display_name": artist} for row, artist in zip(objects(8), artists)]
    table = write_csv(tmp_path / "x.csv", rows)
    groups = {row["object_id"]: row["group"] for row in run(tmp_path, table=table)[1]}
    assert groups == {
        "1": "Ann",
        "2": "Ann",
        "3": "Bo",
        "4": "Bo",
        "5": "5",
        "6": "6",
        "7": "7",
        "8": "Unknowable Smith",
    }
    by_artist = run(tmp_path, table=table, label="artist_display_name")[1]
    assert all(row["group"] == row["object_id"] for row in by_artist)
    by_url = run(tmp_path, table=table, group="original_image_url")[1]
    assert all(row["group"] == row["image_uri"] for row in by_url)


def test_classes_that_are_one_artists_each_are_not_kept_together(tmp_path: Path) -> None:
    """By artist, each such class would stand on one side: there would be nothing to learn or nothing to judge by."""
    rows = [
        row | {"artist_display_name": name, "artist_alpha_sort": name[::-1]}
        for row, name in zip(objects(60), ["Ann", "Bo", "Cy"] * 20)
    ]
    table = write_csv(tmp_path / "x.csv", rows)
    selection, found = run(tmp_path, table=table, label="artist_alpha_sort", min_images_per_class=5)
    assert selection.group == "" and all(row["group"] == row["object_id"] for row in found)
    expected = {(name, side) for name in ("nnA", "oB", "yC") for side in ("train", "test")}
    assert {(row["label"], row["split"]) for row in found} >= expected
    note = "3 of 3 classes of artist_alpha_sort belong to one artist_display_name each"
    assert note in str(selection) and note in (tmp_path / "profile").read_text()
    _, found = run(tmp_path, table=write_csv(tmp_path / "y.csv", rows + rows[:1]), label="artist_alpha_sort")
    assert all(row["group"] == row["object_id"] for row in found), "also where an object is repeated"
    named, found = run(tmp_path, table=table, label="artist_alpha_sort", group="artist_display_name")
    assert named.group == "artist_display_name" and len({row["group"] for row in found}) == 3


def test_a_slice_that_does_not_exist_is_said_and_one_given_twice_counts_once(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "x.csv", objects(12, Period="Edo"))
    selection, rows = run(tmp_path, table=table, slices="perod,Period,period")
    assert "note: slices: there is no column perod (did you mean Period?), so it is left out" in str(selection)
    assert [name for name in rows[0] if name.startswith("meta_")] == ["meta_Period"]
    assert "note:" not in str(run(tmp_path, table=table)[0]), "the default names columns that not every collection has"


def test_a_source_whose_package_is_missing_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    monkeypatch.delitem(sys.modules, "components.query.sources.bigquery", raising=False)
    with pytest.raises(QueryError, match=r"needs the Python package grpc.*--editable .\.\[bigquery\]"):
        open_source(Settings(source="bigquery"))


def test_where_uses_the_types_of_its_columns_and_other_columns_stay_text(tmp_path: Path) -> None:
    rows = [row | {"object_id": f"{row['object_id']:05d}", "year": 1790 + row["object_id"]} for row in objects(20)]
    table = write_csv(tmp_path / "x.csv", rows)
    selection, found = run(tmp_path, table=table, where="year > 1800 AND culture IN ('French', 'Japan')")
    assert [selection.counts.source, selection.counts.matching] == [20, 10]
    assert sorted(row["object_id"] for row in found)[0] == "00011"


BAD = [
    ({"table": "missing.csv"}, r"there is no table missing\.csv"),
    ({"table": ""}, "needs table="),
    ({"table": __file__}, r"a table's name ends with \.csv"),
    ({"source": "tabel"}, "did you mean table.*: use one of sample, table, "),
    ({"label": "cultrue"}, "there is no such column.*culture"),
    ({"group": "artst"}, "group=artst: there is no such column"),
    ({"where": "cultur = 'x'"}, "there is no column cultur .*culture"),
    ({"where": "culture = 'nobody'"}, "none of 12 objects matches"),
    ({"where": "culture >"}, "not an SQL condition"),
    ({"where": "true; DROP TABLE objects"}, "must be one condition"),
    ({"where": "object_id IN (SELECT 1)"}, "without SELECT"),
    ({"where": "DELETE FROM objects"}, "must be one condition|not an SQL"),
    ({"where": "culture + 1 > 2"}, "where=culture"),
    ({"where": "no_such_function(culture)"}, "no_such_function"),
    ({"min_images_per_class": 100}, "0 of 2 classes.*French with 6.*lower min_images_per_class=100"),
    ({"max_classes": 1}, "max_classes=1 is not allowed: use a whole number from 2"),
    ({"test_fraction": 0.6, "validation_fraction": 0.4}, "leave nothing to train on"),
    ({"folds": 1}, "2 folds or more"),
    ({"folds": 3, "fold": 3}, "0 to 2"),
    ({"shards": 0}, "shards=0 is not allowed: use a whole number from 1"),
    ({"test_fraction": 0.0}, "test_fraction=0.0 is not allowed: .*a test split is needed"),
    ({"validation_fraction": 0.0}, "validation_fraction=0.0 is not allowed: .*a validation split is needed"),
    ({"validation_fraction": float("nan")}, "validation_fraction=nan is not allowed"),
    ({"fold": 2}, "fold=2 is not allowed: set folds too"),
    ({"seed": -1}, "seed=-1 is not allowed"),
    ({"keywords": "monkey"}, "source=table does not read it; use source=flickr, or leave it empty"),
    ({"expected_classes": "French"}, "name two classes or more"),
    ({"columns": "object_id"}, "write our_name=name_in_the_table"),
    ({"columns": "object_id=objectid"}, "there is no column objectid .*object_id"),
    ({"images_table": "missing.csv"}, "there is no table missing"),
    ({"label_map": "missing.csv"}, "cannot read .*missing"),
    ({"max_images_per_class": 3, "min_images_per_class": 4}, "no class can satisfy both"),
]


@pytest.mark.parametrize("settings, message", BAD, ids=[str(settings) for settings, _ in BAD])
def test_a_bad_parameter_is_named_in_one_line_with_what_to_do(tmp_path: Path, settings: dict, message: str) -> None:
    table = write_csv(tmp_path / "x.csv", objects(12))
    with pytest.raises(PipelineError, match=message) as caught:
        run(tmp_path, **{"table": table, **settings})
    assert "\n" not in str(caught.value)


def test_a_class_that_the_map_names_and_that_has_no_picture_is_an_error(tmp_path: Path) -> None:
    mapping = tmp_path / "map.csv"
    mapping.write_text("French,French\nJapan,Japanese\nPeru,Peruvian\n")
    with pytest.raises(QueryError, match="no picture is left for Peruvian"):
        run(tmp_path, table=write_csv(tmp_path / "x.csv", objects(12)), label_map=str(mapping))
    mapping.write_bytes("French,French\nCaf\u00e9,Coffee\n".encode("latin-1"))
    with pytest.raises(PipelineError, match="map.csv, line 2: the file is not in UTF-8"):
        run(tmp_path, table=write_csv(tmp_path / "x.csv", objects(12)), label_map=str(mapping))
    mapping.write_text("French,French\nFrench,Gallic\n")
    with pytest.raises(QueryError, match="line 2: 'French' is both French and Gallic"):
        run(tmp_path, table=write_csv(tmp_path / "x.csv", objects(12)), label_map=str(mapping))


def test_objects_whose_pictures_are_all_missing_are_an_error(tmp_path: Path) -> None:
    rows = [row | {"original_image_url": ""} for row in objects(4)]
    with pytest.raises(QueryError, match="none of 4 objects with a value in culture has a picture"):
        run(tmp_path, table=write_csv(tmp_path / "x.csv", rows))
    without = [{"object_id": 1, "culture": "x"}]
    with pytest.raises(QueryError, match="no picture addresses"):
        run(tmp_path, table=write_csv(tmp_path / "x.csv", without))


def test_hostile_names_are_data(tmp_path: Path) -> None:
    """Quotes, brackets and SQL in column names, values, paths and parameters."""
    evil = "cul\"ture'); DROP TABLE objects; --"
    rows = [
        {"object_id": f"{n}'\"", evil: f'it\'s "{n % 2}"; DROP', "original_image_url": f"http://h/{n}'"}
        for n in range(10)
    ]
    folder = tmp_path / 'it\'s "a" folder'
    folder.mkdir()
    table = write_csv(folder / "x.csv", rows)
    selection, found = run(folder, table=table, label=evil, slices=evil, label_split="';", shards=2)
    assert selection.labels == ['it\'s "0"; DROP', 'it\'s "1"; DROP'] and len(found) == 10


def test_settings_are_the_components_parameters() -> None:
    """component.py passes what Settings names, so a parameter that it lacks would be ignored without a word."""
    import inspect

    from components.query.component import query

    names = [
        name
        for name in inspect.signature(query.python_func).parameters
        if name not in ("state", "objects", "labels", "profile")
    ]
    of_annotate = ["take"]
    assert names + of_annotate == list(Settings.__annotations__)
    assert set(NO_LIMITS) <= set(names)


def test_the_defaults_are_the_pipelines() -> None:
    """`pipeline.py attributes` fills in what the user leaves out from Settings, a run from the pipeline."""
    import pipeline
    from components import checks

    defaults = {name: spec.default for name, spec in pipeline.pipeline.component_spec.inputs.items()}
    fixed = {"take": "labelled"}  # of the pipeline that annotates
    assert asdict(Settings()) == fixed | checks.arguments(Settings, defaults)
