"""The page that all stages share: complete, offline, escaped."""

import re

import pytest

from components.shared import report
from components.shared.report import Picture, Report

JPEG = b"\xff\xd8\xff\xe0rest"
HOSTILE = "<script>alert('x')</script> & \"more\""
BLOCKS = {
    "table": lambda: report.table(["a", "b"], [[HOSTILE, 1234], ["x", 0.5]]),
    "bars": lambda: report.bars([(HOSTILE, 3, "3"), ("y", 0, "0")]),
    "stages": lambda: report.stages([(HOSTILE, 10, []), ("rest", 8, [(HOSTILE, 2)])]),
    "stacked": lambda: report.stacked(["one", HOSTILE], [(HOSTILE, [1, 2])]),
    "histogram": lambda: report.histogram([(HOSTILE, 5, ""), ("more", 0, "warn")], "px"),
    "pictures": lambda: report.pictures([Picture(JPEG, HOSTILE, HOSTILE)]),
    "strip": lambda: report.strip([Picture(JPEG, HOSTILE, HOSTILE)]),
    "pairs": lambda: report.pairs([(Picture(JPEG), Picture(JPEG), HOSTILE)]),
    "findable": lambda: report.findable([(HOSTILE, HOSTILE, [report.notice(HOSTILE)])] * 9, HOSTILE),
    "folded": lambda: report.folded(HOSTILE, report.notice(HOSTILE)),
    "notice": lambda: report.notice(HOSTILE, "warn"),
}


def scripts(html: str) -> int:
    return len(re.findall(r"<script", html))


@pytest.mark.parametrize("name", BLOCKS)
def test_text_from_a_collection_is_never_markup(name):
    page = Report(HOSTILE, HOSTILE, {HOSTILE: HOSTILE}, footer=HOSTILE)
    page.section(HOSTILE, BLOCKS[name](), intro=HOSTILE)
    html = page.html()
    assert scripts(html) == scripts(Report("plain").html()) == 1
    assert "&lt;script&gt;alert(" in html


@pytest.mark.parametrize("name", ["bars", "stages", "stacked", "histogram", "pictures", "strip", "pairs", "findable"])
def test_blocks_may_be_empty(name):
    empty = {"stacked": lambda: report.stacked([], []), "findable": lambda: report.findable([], "find")}
    assert str(empty.get(name, lambda: getattr(report, name)([]))())


def test_the_page_needs_no_network(tmp_path):
    page = Report("t", banner=[JPEG], facts={"n": 1234})
    page.section("s", *(block() for block in BLOCKS.values()))
    page.save(str(tmp_path / "r.html"))
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', html) == []
    assert "url(" not in html and "@import" not in html
    assert "1,234" in html


@pytest.mark.parametrize("data, kind", [(b"\x89PNG..", "png"), (JPEG, "jpeg"), (b"RIFF....WEBP", "webp")])
def test_pictures_carry_their_type(data, kind):
    assert f"data:image/{kind};base64," in report.pictures([Picture(data)])


def test_many_sections_get_links_to_each():
    page = Report("t")
    for number in range(5):
        page.section(f"Part {number}", report.notice("x"))
    targets = re.findall(r'href="#([^"]+)"', page.html())
    assert len(targets) == 5
    assert all(f'id="{target}"' in page.html() for target in targets)


def aligned_right(columns: list[list[object]]) -> list[bool]:
    html = report.table([str(number) for number in range(len(columns))], list(zip(*columns)))
    return ["number" in head for head in re.findall("<th.*?>", html) if "thead" not in head]


def test_numbers_also_signed_in_per_cent_and_with_units_are_aligned_right_and_names_are_not():
    numbers = [[1, "–"], ["+1.4", "−0.8"], ["62.2\u00a0%", "4 %"], ["1.03 MB", "10 MB"], [0.5, ""]]
    assert aligned_right(numbers) == [True] * len(numbers)
    names = [["1936.120", "41.2"], ["a", 1], ["0.898 to 0.988", "0.1 to 0.2"], ["", "–"], [True, False]]
    assert aligned_right(names) == [False] * len(names)


@pytest.mark.parametrize("tiles, columns", [(0, 0), (4, 4), (7, 7), (8, 4), (9, 5), (15, 5)])
def test_rows_of_tiles_are_about_equally_long(tiles, columns):
    html = Report("t", facts={f"fact {number}": number for number in range(tiles)}).html()
    assert re.findall(r'style="--columns:(\d+)"', html) == ([str(columns)] if tiles else [])


def test_a_table_is_shown_whole_unless_it_is_long_and_then_its_rows_can_be_found():
    short, long = (report.table(["a"], [["x"]] * rows) for rows in (40, 41))
    assert "finder" not in short and "long" not in short
    assert "Find in 41 rows" in long and 'class="scroll long"' in long


def test_parameters_without_a_value_are_named_and_no_rows():
    html = report.parameters({"source": "sample", "table": "", "max_classes": 0, "serve": False, "where": None})
    assert re.findall("<tr><td.*?>(.*?)</td>", html) == ["source", "max_classes", "serve"]
    assert "Not set: table, where" in html


def test_a_plot_has_the_width_that_it_was_drawn_for():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 3), layout="constrained")
    figure.add_subplot().set_title("t")
    assert 'width="288pt"' in report.plot(figure, "a plot")
    assert 'class="plot wide"' in report.plot(Figure(figsize=(9, 3)), "a wide one")
