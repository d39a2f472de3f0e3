"""Corrections of a person: exactly those objects change, in their splits, and what cannot be is one line."""

from pathlib import Path

import pytest

from components.artifacts import corrections
from components.query.state import source_state
from components.shared.errors import PipelineError
from tests.helpers.tables import run, write_csv

HEAD = ",".join(corrections.COLUMNS[:3])


@pytest.fixture
def table(tmp_path) -> str:
    """60 objects of three classes; the last three have none, nor one that label_map would name."""
    rows = [
        {"object_id": f"o.{n}" if n == 7 else f"o{n}", "culture": "abc"[n % 3], "title": f"Work {n}"} for n in range(57)
    ]
    rows += [{"object_id": f"o{n}", "culture": "", "title": f"Work {n}"} for n in range(57, 60)]
    for row in rows:
        row["original_image_url"] = f"https://museum.test/{row['object_id']}.jpg"
    return write_csv(tmp_path / "objects.csv", rows)


def corrected(tmp_path: Path, table: str, *lines: str, head: str = HEAD):
    path = tmp_path / "corrections.csv"
    path.write_text("\ufeff" + "\r\n".join([head, *lines]) + "\r\n", encoding="utf-8")
    folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
    folder.mkdir()
    selection, rows = run(folder, table=table, label_corrections=str(path), min_images_per_class=5)
    return selection, {row["object_id"]: row for row in rows}, (folder / "profile").read_text()


def test_exactly_those_objects_change_and_no_split_does(tmp_path, table):
    (tmp_path / "before").mkdir()
    before = {row["object_id"]: row for row in run(tmp_path / "before", table=table, min_images_per_class=5)[1]}
    (odd,) = [name for name in before if name.startswith("o-7")]
    lines = [
        "o0,accept,b",
        "o1,reject,b",
        f"{odd},correct,c",
        "o4,correct,b",
        "o3,accept,a",
        "o3,accept,c",
        "o58,reject,",
    ]
    selection, after, profile = corrected(tmp_path, table, *lines)
    assert after.keys() == before.keys()
    labels = {"o0": "b", odd: "c", "o3": "c"}
    indexes = {"a": 0, "b": 1, "c": 2}
    for name, row in after.items():
        expected = before[name] | (
            {"label": labels[name], "label_index": indexes[labels[name]]} if name in labels else {}
        )
        assert row == expected, name
    assert [(key, was, now) for key, _, was, now in selection.corrected.changed] == [
        (odd, "b", "c"), ("o0", "a", "b"), ("o3", "a", "c"),
    ]  # fmt: skip
    assert selection.corrected.others == 3
    section = profile[profile.index("Corrected labels</h2>") :]
    assert "3 objects have another class" in section and "Work 7" in section


def test_an_object_without_a_label_gets_its_first_one(tmp_path, table):
    selection, after, _ = corrected(tmp_path, table, "o57,accept,a", "o58,reject,")
    assert after["o57"]["label"] == "a" and "o58" not in after and len(after) == 58
    assert [row[2:] for row in selection.corrected.changed] == [("", "a")]


@pytest.mark.parametrize(
    "lines, message",
    [
        (["o99,accept,a"], "line 2: there is no object o99 here"),
        (["o0,accept,a", "o1,correct,d"], "line 3: there is no class 'd'"),
        (["o0,accept,"], "line 2: accept needs an object_id and a label"),
        (["o0,delete,a"], "line 2: the action 'delete' is none of accept, correct, reject"),
        ([], "it has no corrections"),
        (['o0,accept,"a'], "is no CSV"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, table, lines, message):
    with pytest.raises(PipelineError) as refused:
        corrected(tmp_path, table, *lines)
    assert message in str(refused.value) and "\n" not in str(refused.value)
    assert str(refused.value).startswith("label_corrections=")


def test_a_file_of_something_else_is_one_line(tmp_path, table):
    with pytest.raises(PipelineError, match="it has no column object_id; give the corrections.csv"):
        corrected(tmp_path, table, "a,b", head="value,class")
    with pytest.raises(PipelineError, match="none.csv"):
        run(tmp_path, table=table, label_corrections=str(tmp_path / "none.csv"))


def test_what_a_spreadsheet_made_of_it_is_read(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("object_id;action;label;previous\no1;accept;'=1+1;x\n;;;\n")
    assert corrections.read(str(path))["o1"].label == "=1+1"


def test_other_corrections_are_another_state(tmp_path, table):
    path = tmp_path / "c.csv"
    states = []
    for content in ("object_id,action,label\no1,accept,a\n", "object_id,action,label\no1,accept,bc\n"):
        path.write_text(content)
        states.append(source_state({"source": "table", "table": table, "label_corrections": str(path)}))
    assert states[0] != states[1] and not states[0].startswith("unknown")
