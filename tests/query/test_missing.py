"""What counts as no value, for labels, groups and slices alike; one spelling for those that are one."""

from pathlib import Path

import duckdb
import pytest

from components.query.missing import PATTERN
from components.query.settings import QueryError
from tests.helpers.tables import objects, run, write_csv

NONE = """
Artist unknown|anoniem|Ubekendt|[Unknown]|n/a|-|None|NaN|NULL|N/A|<NA>|NA|#N/A|unknown|Unknown artist|Unknown (French)
Anonymous, French, 18th century|unidentified|(unknown)|?|...|—|Unbekannter Künstler|Künstler unbekannt|Anonyme|*|/|_
Artist/maker unknown, American|artiste inconnu|Onbekende kunstenaar|okänd|Ukjent|Desconocido|Anónimo|sconosciuto|Ignoto
Неизвестный художник|不明|作者不詳|佚名|미상|Anonymus|anon.|not known|Not available|by an unknown hand|Unknown?|n.a.|k.A.|no data
Photographer not identified|Tekijä tuntematon|non identifié|Unknown; possibly Dutch|Artista desconocido|άγνωστος
"""
VALUES = """
Unknowable Smith|French|Nana|Nonesuch|The Great Unknown|C++|+|🐱|0|007|-1|NASA|Nationality|Anna|Anona|Ignatius|The|Maker
Name|Nil|Nullarbor|Missing Man|Empty quarter|Ukraine|Ukiyo-e|Kent|Nan Goldin|An|Not|Non|el|Date|Undine|n|x|A
"""


@pytest.mark.parametrize("texts, expected", [(NONE, True), (VALUES, False)])
def test_the_notion(texts: str, expected: bool) -> None:
    values = [value for line in texts.strip().split("\n") for value in line.split("|")]
    with duckdb.connect() as database:
        sql = "SELECT value FROM (SELECT unnest(?) AS value) WHERE regexp_full_match(lower(value), ?) != ?"
        assert database.execute(sql, [values, PATTERN, expected]).fetchall() == []


def with_artists(folder: Path, artists: list[str], **settings: object) -> tuple:
    rows = [row | {"artist_display_name": artist} for row, artist in zip(objects(len(artists)), artists)]
    return run(folder, table=write_csv(folder / "x.csv", rows), **settings)


def test_the_unknown_are_not_one_artist(tmp_path: Path) -> None:
    artists = ["Artist unknown", "anoniem", "Ann"] * 20
    selection, found = with_artists(tmp_path, artists)
    assert {row["group"] for row in found if row["artist"] != "Ann"} == {
        row["object_id"] for row in found if row["artist"] != "Ann"
    }
    expected = "40 objects have no value in artist_display_name, but Artist unknown (20), anoniem (20)"
    assert expected in str(selection) and "Artist unknown" in (tmp_path / "profile").read_text()
    selection, found = with_artists(tmp_path, artists, missing_values="")
    assert {row["group"] for row in found} == {"Artist unknown", "anoniem", "Ann"}
    _, found = with_artists(tmp_path, artists, missing_values="ANN")
    assert {row["group"] for row in found if row["artist"] == "anoniem"} == {"anoniem"}
    assert len({row["group"] for row in found if row["artist"] == "Ann"}) == 20


def test_a_large_group_is_a_warning(tmp_path: Path) -> None:
    selection, _ = with_artists(tmp_path, ["Studio"] * 24 + [f"A{n}" for n in range(16)])
    assert "24 of 40 pictures share the artist_display_name Studio and are all in one split" in str(selection)
    assert "24 of 40 pictures share" in (tmp_path / "profile").read_text()
    assert "pictures share the" not in str(with_artists(tmp_path, [f"A{n}" for n in range(40)])[0])


def test_one_artist_in_several_spellings_is_one_group(tmp_path: Path) -> None:
    spellings = ["René  Café", "Rene\u0301 Cafe\u0301", "René\u00a0Café", "|René Café|", "René\u200b Café\u2028"]
    _, found = with_artists(tmp_path, spellings * 4, group="artist_display_name")
    assert {row["group"] for row in found} == {"René Café"} and len({row["split"] for row in found}) == 1


def test_labels_and_slices_without_a_value(tmp_path: Path) -> None:
    values = ["French", "Dutch", "N/A", "<NA>", "nan", "[Unknown]"]
    values += ["Fr\u00a0ench", "Fr ench", "Dut\u0085ch", "Dut\u2028ch"]
    rows = [row | {"culture": value, "period": value} for row, value in zip(objects(10), values)]
    table = write_csv(tmp_path / "x.csv", rows)
    selection, found = run(tmp_path, table=table, slices="period")
    assert selection.labels == ["Dut ch", "Dutch", "Fr ench", "French"] and selection.counts.no_label == 4
    assert (tmp_path / "labels").read_text().splitlines() == selection.labels
    assert "label: 4 objects have no value in culture, but" in str(selection)
    selection, found = run(tmp_path, table=table, missing_values="", slices="period")
    assert {"N/A", "<NA>", "nan", "[Unknown]"} <= set(selection.labels)
    assert {row["meta_period"] for row in found} == set(selection.labels)
    (tmp_path / "map.csv").write_text("N/A,Nothing\nFrench,French\n")
    selection, _ = run(tmp_path, table=table, label_map=str(tmp_path / "map.csv"))
    assert selection.labels == ["French", "Nothing"], "what the map names is a value"
    rows = [row | {"culture": "unknown"} for row in objects(5)]
    with pytest.raises(QueryError, match=r"none of 5 objects has a value there \(unknown count as none"):
        run(tmp_path, table=write_csv(tmp_path / "y.csv", rows))
