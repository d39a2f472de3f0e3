"""The page on which a person decides about suggestions, driven in a browser without any server."""

import os
import time

import pytest

from components.artifacts import corrections
from components.shared.report import Picture, Report, ReviewItem
from tests.helpers import browser
from tests.helpers.colour_model import picture

LABELS = ["red", "green", "blue", '=1+1, "odd"']
FOCUSED = "document.activeElement.dataset.id"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser.find() is None, reason="no Chromium: install the Debian package chromium"),
]


@pytest.fixture(scope="module")
def tab():
    with browser.opened() as page:
        yield page


def write_page(path, count: int) -> str:
    jpeg = picture("red", 40, 30)
    items = [
        ReviewItem(
            Picture(jpeg, f"Work {n} <b>", "a note"), f"id-{n}", LABELS[n % 3] if n != 3 else "", LABELS[(n + 1) % 4]
        )
        for n in range(count)
    ]
    report = Report("The data set")
    report.review("Suspected wrong labels", items, LABELS, "Look here.")
    report.save(str(path))
    return path.as_uri()


def key(tab, name: str) -> None:
    tab.press(name, ord(name.upper()) if len(name) == 1 else {"ArrowRight": 39, "ArrowDown": 40, "Enter": 13}[name])


@pytest.mark.parametrize("width", [1200, 400])
def test_by_keyboard_and_saved_as_the_file_that_the_next_run_reads(tab, tmp_path, width):
    tab.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    tab.open(write_page(tmp_path / "page.html", 12), width, 900)
    assert tab.run("document.documentElement.scrollWidth") <= width
    tab.run("document.querySelector('.review-item').focus()")
    key(tab, "a")
    assert tab.run(FOCUSED) == "id-1"
    key(tab, "r")
    key(tab, "c")
    tab.wait("document.querySelector('dialog').open")
    tab.type("violet")
    key(tab, "Enter")
    tab.wait("document.querySelector('[role=alert]').textContent === 'There is no class violet.'")
    tab.run("document.querySelector('dialog input').value = ''")
    tab.type(LABELS[3])
    key(tab, "Enter")
    tab.wait("!document.querySelector('dialog').open")
    assert tab.run(FOCUSED) == "id-3"
    key(tab, "r")  # it has no label, and gets none
    key(tab, "a")
    key(tab, "u")
    assert tab.run(FOCUSED) == "id-4"
    assert "4 of 12 decided" in tab.run("document.querySelector('.review-bar').innerText")
    tab.screenshot(tmp_path / f"review-{width}.png")
    key(tab, "s")
    deadline = time.monotonic() + 20
    while not (tmp_path / corrections.FILE_NAME).exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    found = corrections.read(str(tmp_path / corrections.FILE_NAME))
    assert {name: (item.action, item.label) for name, item in found.items()} == {
        "id-0": ("accept", "green"),
        "id-1": ("reject", "green"),
        "id-2": ("correct", LABELS[3]),
        "id-3": ("reject", ""),
    }
    os.remove(tmp_path / corrections.FILE_NAME)
    assert tab.run("performance.getEntriesByType('resource').filter(e => e.name.startsWith('http')).length") == 0


def test_a_thousand_images_stay_fluid(tab, tmp_path):
    tab.open(write_page(tmp_path / "page.html", 1000), 1200, 900)
    tab.run("document.querySelector('.review-item').focus()")
    # Each decision and each move, with the layout that it causes.
    seconds = tab.run("""(() => {
        const started = performance.now();
        for (const key of ['a', 'r', 'ArrowDown', 'ArrowRight', 'u'].flatMap(key => Array(20).fill(key))) {
            document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
            document.body.offsetHeight;
        }
        return (performance.now() - started) / 100000;
    })()""")
    assert tab.run("document.querySelectorAll('.decided').length") == 20
    assert seconds < 0.05
