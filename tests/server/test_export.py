"""The page without a server: the model in a real browser, by LiteRT.js, and the same geometry in JavaScript."""

import base64
import functools
import io
import re
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.main import main
from components.artifacts import classifier
from components.server import runtime
from components.shared import imaging
from components.shared.errors import PipelineError
from tests.helpers import browser, color_profiles
from tests.helpers.colour_model import picture
from tests.helpers.louvre import needs_louvre, paintings

# The words of npm where there is no network; whatever else fails is a fault.
_UNREACHABLE = re.compile(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|network", re.IGNORECASE)
ANSWERED = "!document.getElementById('result').hidden || !document.getElementById('error').hidden"
BEST = "document.getElementById('best').textContent"
needs_chromium = pytest.mark.skipif(browser.find() is None, reason="no Chromium: install the Debian package chromium")


@pytest.fixture(scope="module")
def exported(classifier_dir, tmp_path_factory) -> Path:
    """The folder that `pipeline.py export web` writes."""
    if shutil.which("npm") is None:
        pytest.skip("no npm: install Node.js")
    packages, folder = tmp_path_factory.mktemp("packages"), tmp_path_factory.mktemp("export") / "page"
    try:
        runtime.fetch(str(packages))
    except PipelineError as error:
        if _UNREACHABLE.search(str(error)):
            pytest.skip("npm does not reach its registry")
        raise
    options = ["--model", classifier_dir, "--name", "colours", "--runtime", str(packages)]
    assert main(["export", "web", str(folder), *options]) == 0
    return folder


@pytest.fixture(scope="module")
def host(exported) -> Iterator[ThreadingHTTPServer]:
    """A static host of that folder."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=exported)) as web:
        threading.Thread(target=web.serve_forever, args=(0.05,), daemon=True).start()
        yield web
        web.shutdown()


@pytest.fixture(scope="module")
def tab(host) -> Iterator[browser.Page]:
    with browser.opened() as page:
        page.open(_address(host), 1200, 900)
        yield page


def _address(host: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{host.server_port}/"


def test_the_folder_is_whole_small_and_strict(exported, classifier_dir):
    size = sum(file.stat().st_size for file in exported.rglob("*") if file.is_file())
    assert size <= Path(classifier_dir, classifier.TFLITE).stat().st_size + 12_000_000
    text = (exported / "index.html").read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert "wasm-unsafe-eval" in policy and "'unsafe-" not in policy.replace("&#39;", "'") and "http" not in policy
    assert not re.search(r"""(src|href|action)="(https?:)?//""", text)
    assert "Apache License" in (exported / "runtime" / "LICENSE").read_text()


@pytest.mark.browser
@needs_chromium
def test_it_answers_as_the_server_does_and_without_a_network(tab, host, classifier_dir, tmp_path):
    model, several = classifier.load(classifier_dir), []
    for number, colour in enumerate(("red", "green", "blue")):
        several.append(tmp_path / f"{number}.jpg")
        several[-1].write_bytes(picture(colour, 320, 240, seed=number))
    (tmp_path / "notes.txt").write_text("This is no picture.")
    tab.choose("#file", *several, tmp_path / "notes.txt")
    tab.wait("document.getElementById('progress').textContent === 'All 4 done'")
    rows = tab.run(
        "[...document.querySelectorAll('#rows tr')].map(row => [...row.cells].slice(2).map(c => c.textContent))"
    )
    for file, row in zip(several, rows):
        label, probability = model.ranking(model.predict([file.read_bytes()])[0])[0]
        assert row[0] == label and float(row[1].removesuffix(" %")) == pytest.approx(100 * probability, abs=0.1)
    assert "no picture" in rows[3][0]
    loaded = tab.run("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert all(address.startswith(_address(host)) for address in loaded) and len(loaded) > 8

    tab.run("navigator.serviceWorker.ready.then(() => true)")
    tab.send("Network.enable")
    tab.send("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
    tab.open(_address(host), 1200, 900)
    tab.choose("#file", several[1])
    tab.wait(ANSWERED)
    assert tab.run(BEST) == "green"


def _seen(tab: browser.Page, data: bytes, stored_size: int, view: str) -> np.ndarray:
    """What geometry.js makes of an image."""
    side = imaging.input_size(stored_size)
    encoded = base64.b64encode(data).decode()
    pixels = tab.run(f"""(async () => {{
        const {{modelInput}} = await import("./static/geometry.js");
        const bytes = Uint8Array.from(atob("{encoded}"), letter => letter.charCodeAt(0));
        return [...await modelInput(new Blob([bytes]), {stored_size}, {side}, "{view}")];
    }})()""")
    return np.array(pixels).reshape(side, side, 3)


def _pictures() -> Iterator[tuple[str, bytes]]:
    """Larger, smaller, as large; upright, lying, odd; each way that EXIF can turn one; grey, transparent."""
    noise = np.random.default_rng(1).integers(0, 256, (12, 16, 3)).astype(np.uint8)
    for width, height in ((400, 300), (301, 517), (40, 31), (64, 90), (2000, 65), (105, 64)):
        image = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        yield f"{width} x {height}", _encoded(image, "PNG")
    image = Image.fromarray(noise).resize((75, 66), Image.Resampling.BICUBIC)  # a JPEG that nobody shrinks
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f"turned {orientation}", _encoded(image, "JPEG", exif=exif, quality=95)
    yield "grey", _encoded(image.convert("L"), "PNG")


def _encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.browser
@needs_chromium
@pytest.mark.parametrize("view", ["center", "whole"])
def test_the_geometry_is_that_of_the_server_to_the_last_digit(tab, view):
    if imaging.cykooz_resizer is None:
        pytest.skip("no SIMD resizer here: Pillow's differs by one of 255")
    for name, data in _pictures():
        expected = imaging.model_input(data, 64, view)
        assert np.abs(_seen(tab, data, 64, view) - expected.astype(int)).max() == 0, name


@pytest.mark.browser
@needs_chromium
def test_large_jpegs_are_shrunk_as_the_servers_decoder_does(tab):
    """Nearly: with one filter over all of such a fine pattern the mean difference is above 0.6."""
    fine = np.random.default_rng(3).integers(60, 196, (225, 300)).astype(np.uint8)
    image = Image.fromarray(fine).resize((600, 450), Image.Resampling.BICUBIC).convert("RGB")
    for factor, stored_size in ((8, 44), (4, 64), (2, 150)):
        data = _encoded(image, "JPEG", quality=95)
        expected = imaging.model_input(data, stored_size, "whole").astype(int)
        assert np.abs(_seen(tab, data, stored_size, "whole") - expected).mean() < 0.3, factor


@pytest.mark.browser
@needs_chromium
def test_colours_of_a_profile_and_what_shines_through(tab):
    """Both are the browser's work, so they may differ by a little; what it would ignore differs by dozens."""
    image = Image.fromarray(np.random.default_rng(2).integers(0, 256, (7, 9, 3)).astype(np.uint8)).resize((90, 70))
    clear = image.copy()
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    for name, data in (
        ("alpha", _encoded(clear, "PNG")),
        ("profile", _encoded(image, "PNG", icc_profile=color_profiles.rgb(1.0, swapped=True))),
    ):
        expected = imaging.model_input(data, 64).astype(int)
        assert np.abs(_seen(tab, data, 64, "center") - expected).max() <= 3, name


@pytest.mark.browser
@pytest.mark.slow
@needs_louvre
@needs_chromium
def test_a_hundred_paintings(tab, classifier_dir):
    model = classifier.load(classifier_dir)
    files = [path.resolve() for _, _, path in paintings()[::11][:100]]
    tab.open(tab.run("location.href"), 1200, 900)
    tab.run("import('./static/classify.js').then(module => { window.classify = module.classify; })")
    same = 0
    for file in files:
        data = file.read_bytes()
        row = model.predict([data])[0]
        encoded = base64.b64encode(data).decode()
        found = tab.run(f"""classify(new Blob([Uint8Array.from(atob("{encoded}"), c => c.charCodeAt(0))]), 3)
            .then(({{predictions}}) => predictions)""")
        given = {each["label"]: each["probability"] for each in found}
        assert [given[label] for label in model.labels] == pytest.approx(row, abs=0.01)
        same += found[0]["label"] == model.ranking(row)[0][0]
    assert len(files) == 100 and same >= 99


def _refused(capsys, *arguments) -> str:
    assert main(["export", "web", *map(str, arguments)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_without_npm_one_line_says_what_to_do(classifier_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    said = _refused(capsys, tmp_path / "page", "--model", classifier_dir)
    assert "install Node.js" in said and f"npm pack @litertjs/core@{runtime.VERSION}" in said and "--runtime" in said
    assert not (tmp_path / "page").exists()


def test_another_runtime_than_the_one_that_was_tried_is_refused(classifier_dir, tmp_path, capsys):
    options = ("--model", classifier_dir, "--runtime", tmp_path)
    assert "has no litertjs-core-" in _refused(capsys, tmp_path / "page", *options)
    for package in runtime.PACKAGES:
        (tmp_path / package.archive).write_bytes(b"something else")
    assert "not @litertjs/core@" in _refused(capsys, tmp_path / "page", *options)
    assert not (tmp_path / "page").exists()


def test_npms_own_reason_is_told(classifier_dir, tmp_path, monkeypatch, capsys):
    script = tmp_path / "npm"
    script.write_text(
        "#!/bin/sh\necho 'npm error code E404' >&2\necho 'npm error 404 Not Found - nowhere' >&2\nexit 1\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert "404 Not Found - nowhere" in _refused(capsys, tmp_path / "page", "--model", classifier_dir)


def test_folders_that_are_not_new_are_left_alone(classifier_dir, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    options = ("--model", classifier_dir)
    assert "not empty" in _refused(capsys, tmp_path, *options)
    assert "is a file" in _refused(capsys, tmp_path / "mine.txt", *options)
    assert "this machine" in _refused(capsys, "s3://bucket/page", *options)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
