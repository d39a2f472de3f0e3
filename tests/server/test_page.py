"""The page in a real browser: choose, drop, paste, URL and errors; by keyboard; and with nothing from elsewhere."""

import base64
import http.server
import threading

import pytest
import requests

from components.serve import local
from tests.helpers import browser
from tests.helpers.colour_model import mixed, picture, striped

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser.find() is None, reason="no Chromium: install the Debian package chromium"),
]
ANSWERED = "!document.getElementById('result').hidden"
BEST = "document.getElementById('best').textContent"
FAILED = "!document.getElementById('error').hidden"
UNSURE = "document.getElementById('unsure').textContent"
ERROR = "document.getElementById('error').textContent"


@pytest.fixture(scope="module")
def tab():
    with browser.opened() as page:
        yield page


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Pictures on a disk, and one file that is none."""
    folder = tmp_path_factory.mktemp("files")
    for colour in ("red", "green", "blue"):
        (folder / f"{colour}.jpg").write_bytes(picture(colour, 320, 240))
    (folder / "notes.txt").write_text("This is no picture.")
    return folder


@pytest.fixture(scope="module")
def pages(classifier_dir):
    """A server that fetches from this machine too, as URLs of the internet cannot be had in a test."""
    with local.running_server(classifier_dir, "--name", "colours", "--workers", "1", "--allow-private-urls") as url:
        yield url


@pytest.fixture(scope="module")
def gallery(files):
    """The URL of a web server with the pictures."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=files)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()


@pytest.mark.parametrize("width", [1200, 400])
def test_choose_drop_paste_url_and_error(tab, pages, gallery, files, width, tmp_path):
    tab.open(pages, width, 900)
    assert tab.run("document.documentElement.scrollWidth") <= width
    tab.choose("#file", files / "red.jpg")
    tab.wait(f"{ANSWERED} && {BEST} === 'red'")
    assert tab.run("document.querySelectorAll('#bars li').length") == 3
    assert tab.run("document.getElementById('preview').naturalWidth") == 320

    tab.drop("#drop", files / "green.jpg")
    tab.wait(f"{ANSWERED} && {BEST} === 'green'")

    encoded = base64.b64encode((files / "blue.jpg").read_bytes()).decode()
    tab.run(
        f"""(text => {{
        const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0)), data = new DataTransfer();
        data.items.add(new File([bytes], 'image.png', {{type: 'image/png'}}));
        document.dispatchEvent(new ClipboardEvent('paste', {{clipboardData: data, bubbles: true}}));
    }})('{encoded}')"""
    )
    tab.wait(f"{ANSWERED} && {BEST} === 'blue'")

    tab.run("document.getElementById('url').focus()")
    tab.type(f"{gallery}/red.jpg")
    tab.press("Enter", 13)
    tab.wait(f"{ANSWERED} && {BEST} === 'red'")
    tab.screenshot(tmp_path / f"answer-{width}.png")

    tab.choose("#file", files / "notes.txt")
    tab.wait(FAILED)
    assert "not a picture" in tab.run(ERROR)
    tab.screenshot(tmp_path / f"error-{width}.png")


@pytest.mark.parametrize("width", [1200, 400])
def test_it_says_what_it_does_not_know(tab, pages, width, tmp_path):
    for name, data in {"striped": striped(), "mixed": mixed()}.items():
        (tmp_path / f"{name}.jpg").write_bytes(data)
    tab.open(pages, width, 900)
    tab.choose("#file", tmp_path / "striped.jpg")
    tab.wait(f"{ANSWERED} && {BEST} === 'I do not know'")
    assert "unlike those that the model learned from" in tab.run(UNSURE)
    tab.screenshot(tmp_path / f"unknown-{width}.png")
    tab.choose("#file", tmp_path / "mixed.jpg")
    tab.wait(f"{ANSWERED} && !{UNSURE}.includes('unlike')")
    assert tab.run(BEST) == "I do not know" and tab.run("document.documentElement.scrollWidth") <= width
    tab.screenshot(tmp_path / f"unsure-{width}.png")


def test_by_keyboard_alone(tab, pages, gallery):
    tab.open(pages, 1200, 900)
    for focused in ("file", "url"):
        tab.press("Tab", 9)
        assert tab.run("document.activeElement.id") == focused
    tab.type(f"{gallery}/green.jpg")
    tab.press("Tab", 9)
    tab.press("Enter", 13)
    tab.wait(f"{ANSWERED} && {BEST} === 'green'")
    tab.press("Tab", 9)
    assert tab.run("document.activeElement.id") == "why"
    tab.press("Tab", 9)
    tab.press("Enter", 13)
    assert tab.run("document.querySelector('details').open")


ROWS = "[...document.querySelectorAll('#rows tr')].map(row => [...row.cells].slice(1).map(cell => cell.textContent))"


@pytest.mark.parametrize("width", [1200, 400])
def test_several_at_once_in_a_table(tab, pages, files, width, tmp_path):
    """Twenty are dropped, one of them is none: each has its row, and the table can be taken along."""
    tab.open(pages, width, 900)
    many = [files / f"{colour}.jpg" for colour in ("red", "green", "blue")] * 6 + [
        files / "notes.txt",
        files / "red.jpg",
    ]
    tab.drop("#drop", *many)
    tab.wait("document.getElementById('progress').textContent === 'All 20 done'")
    rows = tab.run(ROWS)
    assert all(row[0].startswith(path.stem) for row, path in zip(rows, many, strict=True))
    assert [row[1] for row in rows[:3]] == ["red", "green", "blue"] and "not a picture" in rows[18][1]
    assert tab.run("document.documentElement.scrollWidth") <= width
    tab.run("""
        window.saved = null; URL.createObjectURL = blob => { window.saved = blob; return 'about:blank'; };
        HTMLAnchorElement.prototype.click = function () { window.savedAs = this.download; };
        document.getElementById('save').click(); window.saved.text().then(text => { window.text = text; });
    """)
    tab.wait("!!window.text")
    lines = tab.run("window.text").strip().split("\r\n")
    assert len(lines) == 21 and lines[0].removeprefix("\ufeff").startswith("image,class,probability")
    assert lines[1].startswith("red") and ",red,0.99" in lines[1] and "not a picture" in lines[19]
    tab.screenshot(tmp_path / f"several-{width}.png")


def test_one_after_several_has_the_page_again(tab, pages, files):
    tab.open(pages, 1200, 900)
    tab.choose("#file", files / "red.jpg", files / "green.jpg")
    tab.wait("document.getElementById('progress').textContent === 'All 2 done'")
    tab.choose("#photo", files / "blue.jpg")
    tab.wait(f"{ANSWERED} && {BEST} === 'blue'")
    assert tab.run("document.getElementById('several').hidden")


def test_what_a_screen_reader_and_a_phone_are_told(tab, pages):
    tab.open(pages, 400, 900)
    assert tab.run("document.getElementById('photo').getAttribute('capture')") == "environment"
    unnamed = """[...document.querySelectorAll('input, button, a, [role=region]')].filter(each =>
        !(each.labels?.length || each.textContent.trim() || each.ariaLabel ||
          each.getAttribute('aria-labelledby'))).length"""
    assert tab.run(unnamed) == 0
    assert tab.run("[...document.querySelectorAll('[role=status], [aria-live]')].length") >= 3
    assert tab.run("document.getElementById('here').textContent") == f"{pages}/"


def test_a_code_leads_another_device_to_where_the_page_was_opened(tab, pages):
    """Not where only this machine could open it."""
    tab.open(pages, 1200, 900)
    assert tab.run("document.getElementById('elsewhere').hidden && !document.getElementById('code').src")
    port = pages.rpartition(":")[2]
    tab.open(f"http://museum.localhost:{port}/", 1200, 900)
    tab.wait("document.getElementById('code').naturalWidth > 50")
    assert not tab.run("document.getElementById('code').hidden")
    code = f"{pages}/address.svg"
    first, same, other = (
        requests.get(code, headers={"Referer": page})
        for page in ("https://a.example/museum/?q=1", "https://a.example/museum/", "https://a.example/")
    )
    assert first.headers["Content-Type"] == "image/svg+xml" and "<script" not in first.text
    assert first.text == same.text != other.text
    for referer in (None, "javascript:alert(1)", f"https://a.example/{'a' * 400}/"):
        assert requests.get(code, headers={"Referer": referer}).status_code == 404


@pytest.fixture(scope="module")
def ingress(pages):
    """The URL of the page as an ingress shows it that serves it below /museum/ and takes that path off."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def forward(self):
            if not self.path.startswith("/museum/"):
                return self.send_error(404)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            kind = {"Content-Type": self.headers["Content-Type"]} if self.headers["Content-Type"] else {}
            found = requests.request(self.command, pages + self.path.removeprefix("/museum"), data=body, headers=kind)
            self.send_response(found.status_code)
            self.send_header("Content-Type", found.headers["Content-Type"])
            self.send_header("Content-Length", str(len(found.content)))
            self.end_headers()
            self.wfile.write(found.content)

        do_GET = do_POST = forward

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}/museum/"
        web.shutdown()


def test_below_a_path_of_an_ingress(tab, ingress, files):
    tab.open(ingress, 1200, 900)
    tab.choose("#file", files / "green.jpg")
    tab.wait(f"{ANSWERED} && {BEST} === 'green'")
    assert tab.run("getComputedStyle(document.querySelector('main')).display") == "grid", "the style sheet is there"
    assert tab.run("document.querySelector('pre').textContent").endswith(f"'{ingress}classify?top=5'")
    assert tab.run("fetch(document.querySelector('a').href).then(answer => answer.status)") == 200


def test_nothing_comes_from_elsewhere(tab, pages):
    tab.open(pages, 1200, 900)
    loaded = tab.run("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert {address.removeprefix(pages) for address in loaded} == {
        "/static/page.css",
        "/static/page.js",
        "/static/classify.js",
    }
