import re

import pytest

from components.evaluate import page
from components.evaluate.gallery import Gallery
from tests.helpers import browser
from tests.helpers.findings import analysis, findings

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser.find() is None, reason="no Chromium: install the Debian package chromium"),
]
TABLE = "[...document.querySelectorAll('table')].find(t => t.textContent.includes('most often taken for'))"


def column(tab, index: int) -> list[str]:
    return tab.run(f"[...{TABLE}.tBodies[0].rows].map(row => row.cells[{index}].textContent.trim())")


def click(tab, index: int) -> None:
    tab.run(f"{TABLE}.querySelectorAll('th')[{index}].click()")


def test_the_class_table_sorts_by_number_by_name_and_leaves_nothing_last(tmp_path):
    found = analysis(n=300, classes=12, skill=1.5)
    # A class without pictures has no recall: it stays at the end, whichever way the column is sorted.
    names = [f"class {i}" for i in range(12)]
    absent = type(found)(**vars(found) | {"classes": found.classes + (_absent(found.classes[0]),)})
    page.write(findings(absent), Gallery([], [], [], []), str(tmp_path / "report.html"))
    with browser.opened() as tab:
        tab.open(f"file://{tmp_path / 'report.html'}", 1200, 900)
        for way in (1, -1):
            click(tab, 2)
            recalls = column(tab, 2)
            assert recalls[-1] == "–"
            assert recalls[:-1] == sorted(recalls[:-1], key=lambda text: way * float(text))
        click(tab, 0)
        assert column(tab, 0) == ["absent", *sorted(names, key=lambda name: int(re.sub(r"\D", "", name)))]


def _absent(row):
    empty = dict.fromkeys(("precision", "recall", "f1", "roc_auc", "average_precision"))
    return type(row)(**vars(row) | empty | {"label": "absent", "support": 0, "predicted": 0, "confused": 0})


def test_the_page_is_not_wider_than_a_phone(tmp_path):
    page.write(findings(analysis(n=300, classes=40, skill=1.5)), Gallery([], [], [], []), str(tmp_path / "report.html"))
    with browser.opened() as tab:
        tab.open(f"file://{tmp_path / 'report.html'}", 390, 800)
        assert tab.run("document.documentElement.scrollWidth") <= 390


def test_a_class_is_found_among_many(tmp_path):
    page.write(findings(analysis(n=500, classes=60, skill=1.5)), Gallery([], [], [], []), str(tmp_path / "report.html"))
    shown = f"[...{TABLE}.tBodies[0].rows].filter(row => row.offsetHeight).map(row => row.cells[0].textContent.trim())"
    with browser.opened() as tab:
        tab.open(f"file://{tmp_path / 'report.html'}", 1200, 900)
        assert len(tab.run(shown)) == 60
        tab.run("const field = document.querySelector('.finder'); field.value = 'Class 59'; field.oninput()")
        found = tab.run(shown)
        assert "class 59" in found and len(found) < 10
