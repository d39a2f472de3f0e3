"""From every source to a model: `pipeline.py run` and `pipeline.py attributes`, as a user starts them, each against a
server that speaks what the real one speaks. (test_local_run.py does the same with the sample, test_store_runs.py with
folders in buckets.)"""

import functools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow.parquet
import pytest

from components.shared.storage import storage
from tests.fakes.bigquery_server import serve_bigquery
from tests.fakes.museums import Answer, FlickrPhotos, WebApi, met_objects, photo, serve
from tests.helpers.pictures import NUMBERS, class_of, folder_of_pictures, jpeg
from tests.helpers.tables import write_csv

ROOT = Path(__file__).resolve().parent.parent
STAGES = ["query", "fetch", "assemble", "tensorboard", "train", "evaluate", "serve"]
TINY = ["shards=1", "epochs=1", "image_size=32", "min_images_per_class=2", "batch_size=8"]
TINY += ["min_accuracy=0", "must_beat_guessing=false"]
MANY = 16  # shards for two dozen objects: some get none
SCHEMES = {"bigquery": {"http", "gs"}, "flickr": {"http"}, "local_folder": set(), "own_file": {"http"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return folder_of_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def pictures(folder: Path) -> Iterator[str]:
    """Address of a web server of these pictures."""

    class Handler(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def address(pictures: str, number: int) -> str:
    return f"{pictures}/{class_of(number)}/{number}.jpg"


@pytest.fixture
def bigquery(pictures: str, gs_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """BigQuery with objects and images; every third picture has no address and lies in the bucket."""
    for number in NUMBERS:
        if number % 3 == 0:
            storage.write_bytes(f"{gs_bucket}/{number}/0.jpg", jpeg(number))
    url = " ".join(f"WHEN {number} THEN '{address(pictures, number)}'" for number in NUMBERS if number % 3)
    with serve_bigquery(page_rows=10) as (server, host):
        server.add_table(
            "museum.the_met.objects",
            f"SELECT i AS object_id, ['French', 'Japan'][i % 2 + 1] AS culture, i % 5 = 0 AS is_highlight "
            f"FROM range({NUMBERS.start}, {NUMBERS.stop}) r(i)",
        )
        server.add_table(
            "museum.the_met.images",
            f'SELECT object_id, CASE object_id {url} END AS original_image_url FROM "museum.the_met.objects"',
        )
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", host)
        yield [
            "source=bigquery", "table=museum.the_met.objects", "images_table=museum.the_met.images",
            f"image_base={gs_bucket}",
        ]  # fmt: skip


@pytest.fixture
def met_api(pictures: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebApi]:
    with serve(met_objects({number: address(pictures, number) for number in NUMBERS})) as (api, host):
        monkeypatch.setenv("MET_API", host)
        yield api


@pytest.fixture
def met(met_api: WebApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The Met's CSV on a web server, its collection API, and its pictures on a third host."""
    rows = [
        {"Object Number": f"1.{n}", "Is Public Domain": "True", "Object ID": n, "Culture": class_of(n)} for n in NUMBERS
    ]
    text = Path(write_csv(tmp_path / "MetObjects.csv", rows)).read_text()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with serve(lambda *_: (200, {}, text)) as (_, files):
        yield ["source=met", f"table={files}/MetObjects.csv"]


@pytest.fixture
def flickr(pictures: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Flickr with a dozen photos of monkeys, and as many of crows."""
    found = {
        word: [photo(n, url_z=address(pictures, n), url_c=None) for n in NUMBERS if class_of(n) == label]
        for word, label in (("monkey", "French"), ("crow", "Japan"))
    }
    with serve(FlickrPhotos(found)) as (_, api):
        monkeypatch.setenv("FLICKR_API", f"{api}/services/rest/")
        monkeypatch.setenv("FLICKR_API_KEY", "good-key")
        yield ["source=flickr:monkey,crow"]


@pytest.fixture
def local_folder(folder: Path) -> list[str]:
    return ["source=folder", f"table={folder}", f"shards={MANY}"]


@pytest.fixture
def own_file(pictures: str, tmp_path: Path) -> Iterator[list[str]]:
    """A collection described by a user's file: an API in pages of ten; what is not open would not be there."""

    def respond(path: str, parameters: dict[str, str]) -> Answer:
        start = int(parameters.get("offset", 0))
        numbers = [*NUMBERS, 1001, 1002][start : start + 10]
        items = [{"id": n, "culture": class_of(n), "free": n < 1000, "file": f"{class_of(n)}/{n}"} for n in numbers]
        return 200, {}, {"items": items}

    with serve(respond) as (_, host):
        entries = {
            "title": "Mine", "kind": "pages", "checked": "2026-11-29: here", "table": host, "records": "items",
            "offset": "offset", "columns": "object_id=id,original_image_url=file", "label": "culture",
            "image_base": f"{pictures}/{{}}.jpg", "open": "free = true", "license": "CC0 1.0",
        }  # fmt: skip
        lines = [*(f"{name} = {json.dumps(value)}\n" for name, value in entries.items()), "size = 10\nrate = 100\n"]
        (tmp_path / "mine.toml").write_text("".join(lines))
        yield [f"source={tmp_path / 'mine.toml'}"]


def command(*arguments: object) -> subprocess.CompletedProcess:
    line = [sys.executable, "pipeline.py", *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["bigquery", "local_folder"])
def test_the_whole_pipeline_runs(source: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    parameters = request.getfixturevalue(source)
    served = f"serve_enabled={'true' if source == 'bigquery' else 'false'}"
    private = "allow_private_addresses=true"
    done = command("run", "--root", tmp_path / "runs", "--name", "here", *TINY, *parameters, served, private)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    summary = check_run(tmp_path / "runs" / "here", SCHEMES[source])
    assert [task["name"] for task in summary["tasks"]] == STAGES
    assert {task["status"] for task in summary["tasks"]} <= {"succeeded", "skipped"}
    if source == "local_folder":
        tasks = {task["name"]: task for task in summary["tasks"]}
        assert 1 < tasks["fetch"]["count"] < MANY, "shards without objects are not waited for"
    served = "succeeded" if source == "bigquery" else "skipped"
    assert summary["tasks"][-1]["name"] == "serve" and summary["tasks"][-1]["status"] == served


@pytest.mark.slow
@pytest.mark.parametrize("source", ["flickr", "own_file"])
def test_every_picture_reaches_the_data_set(source: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """What follows sees the data set alone, so these end there: by a rule that it breaks."""
    options = ["--root", tmp_path / "runs", "--name", "here", "allow_private_addresses=true"]
    done = command("run", *options, *TINY, *request.getfixturevalue(source), "min_examples_per_class=100")
    assert done.returncode == 1 and "2 classes have fewer than 100 train examples" in done.stdout, done.stdout[-3000:]
    check_run(tmp_path / "runs" / "here", SCHEMES[source])


def check_run(folder: Path, schemes: set[str]) -> dict:
    """Whether every picture, from addresses of `schemes`, reached the data set; the run's summary."""
    summary = json.loads((folder / "summary.json").read_text())
    assert sum(summary["metrics"][f"examples_{side}"] for side in ("train", "validation", "test")) == len(NUMBERS)
    rows = pyarrow.parquet.read_table(folder / "artifacts" / "query" / "objects").to_pylist()
    assert {row["image_uri"].partition(":")[0] for row in rows if "://" in row["image_uri"]} == schemes
    return summary


@pytest.mark.slow
def test_the_whole_pipeline_runs_from_the_met_also_after_its_api_failed(
    met: list[str], met_api: WebApi, tmp_path: Path
) -> None:
    for number in range(1, 9):
        met_api.faults[f"/public/collection/v1/objects/{number}"] = [(403, {}, "blocked")]
    options = ["--root", tmp_path / "runs", "--name", "here"]
    done = command("run", *options, *met, *TINY, "serve_enabled=false", "allow_private_addresses=true")
    assert done.returncode == 1 and "8 of 24 objects" in done.stdout and "the 16 answers are kept" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr and len(met_api.requests) == 24
    done = command("run", *options, "--resume")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert sorted(int(path.rpartition("/")[2]) for path, _, _ in met_api.requests[24:]) == list(range(1, 9))
    check_run(tmp_path / "runs" / "here", {"http"})


ATTRIBUTES = [
    ("bigquery", "culture", ["where=cultur = 'x'"], "there is no column cultur (did you mean culture?)"),
    ("met", "culture", ["images_table=x.csv"], "source=met does not read it"),
    ("flickr", "keyword", ["keywords=,"], "source=flickr needs two words or more"),
    ("own_file", "culture", ["rights=all"], "rights=all is not allowed"),
    ("local_folder", "folder", ["table=nowhere"], "there is no such folder"),
    ("table", "culture", ["columns=object_id=nonsense"], "there is no column nonsense"),
]


@pytest.fixture
def table(pictures: str, tmp_path: Path) -> list[str]:
    rows = [{"object_id": n, "culture": class_of(n), "original_image_url": address(pictures, n)} for n in NUMBERS]
    return ["source=table", f"table={write_csv(tmp_path / 'objects.csv', rows)}"]


@pytest.mark.parametrize("source, label, wrong, message", ATTRIBUTES, ids=[case[0] for case in ATTRIBUTES])
def test_attributes_are_shown_and_a_mistake_is_one_line(
    source: str, label: str, wrong: list[str], message: str, request: pytest.FixtureRequest
) -> None:
    parameters = request.getfixturevalue(source)
    done = command("attributes", *parameters, "min_images_per_class=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "What could be learned from 24 objects" in done.stdout
    row = next(line for line in done.stdout.splitlines() if line.split()[:1] == [label])
    assert row.split()[:7] == [label, "2", "24", "100", "%", "2", "24"]
    if source == "flickr":
        parameters = ["source=flickr"]
    done = command("attributes", *parameters, *wrong)
    assert done.returncode != 0 and message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and done.stderr.startswith("error: "), done.stderr


@pytest.mark.slow
def test_a_table_that_changed_under_its_name_is_read_anew_and_one_that_did_not_is_not(
    table: list[str], tmp_path: Path
) -> None:
    options = ["--root", tmp_path / "runs", "--name", "here"]
    done = command("run", *options, *table, *TINY, "serve_enabled=false", "allow_private_addresses=true")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]

    def resumed() -> dict[str, str]:
        done = command("run", *options, "--resume")
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
        tasks = json.loads((tmp_path / "runs" / "here" / "summary.json").read_text())["tasks"]
        return {task["name"]: task["status"] for task in tasks}

    chain = ("query", "fetch", "assemble", "train")
    unchanged = resumed()
    assert {unchanged[name] for name in chain} == {"cached"}
    path = Path(table[1].removeprefix("table="))
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    changed = resumed()
    assert {changed[name] for name in chain} == {"succeeded"}
    summary = json.loads((tmp_path / "runs" / "here" / "summary.json").read_text())
    assert sum(summary["metrics"][f"examples_{side}"] for side in ("train", "validation", "test")) == len(NUMBERS) - 2
