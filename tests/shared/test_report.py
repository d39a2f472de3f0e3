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
