"""`pipeline.py annotate`: labels for what nobody has labelled, on one machine, from a table and a real web server."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cli.main import main
from components.annotate.publish import label_next
from components.artifacts import classifier, suggestions
from tests.helpers.colour_model import COLOURS, mixed, picture, striped
from tests.helpers.tables import write_csv

ROOT = Path(__file__).resolve().parents[2]
COUNT = 60
GONE, BROKEN, MIXED, STRIPED = 3, 8, 13, 18


def colour(number: int) -> str:
    return list(COLOURS)[number % 3]


def is_emptied(number: int) -> bool:
    return number % 5 in (0, 3)


def data(number: int) -> bytes:
    special = {BROKEN: b"no picture", MIXED: mixed(), STRIPED: striped()}
    return special.get(number) or picture(colour(number), seed=number)


class Museum:
    """A web server of the pictures, which counts what it is asked for, and the table of its objects."""

    def __init__(self, folder: Path) -> None:
        self.asked: Counter[int] = Counter()
        self.pause = 0.0
        museum = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = re.fullmatch(r"/(\d+)\.jpg", self.path)
                number = int(found[1]) if found else GONE
                time.sleep(museum.pause)  # slow until the kill, so that it falls between the first shard and the last
                museum.asked[number] += bool(found)
                body = b"" if number == GONE else data(number)
                self.send_response(404 if number == GONE else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.table = folder / "objects.csv"
        rows = [
            {
                "object_id": number,
                "genre": "" if is_emptied(number) or number in (BROKEN, MIXED, STRIPED) else colour(number),
                "title": "=HYPERLINK(1)" if number == 0 else f"Work {number} <b>",
                "original_image_url": f"{number}.jpg",
                "link_resource": f"https://museum.example/{number}",
            }
            for number in range(COUNT)
        ]
        write_csv(self.table, rows)
        self.unlabelled = {str(row["object_id"]) for row in rows if not row["genre"]}

    def arguments(self) -> list[str]:
        base = f"image_base=http://127.0.0.1:{self.server.server_port}/"
        source = ["source=table", f"table={self.table}", base, "label=genre", "max_failed_fraction=0.5"]
        return [*source, "shards=3", "requests_per_second=0"]


@pytest.fixture(scope="module")
def museum(tmp_path_factory):
    found = Museum(tmp_path_factory.mktemp("museum"))
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture(scope="module")
def annotated(museum, classifier_dir, tmp_path_factory):
    """Killed when the first shard was done, and started again: the folder, and what was asked before and after."""
    folder = tmp_path_factory.mktemp("annotated") / "out"
    arguments = ["annotate", "--model", classifier_dir, "--output", str(folder), *museum.arguments()]
    museum.pause = 0.05
    process = subprocess.Popen([sys.executable, "pipeline.py", *arguments], cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(folder.glob(f"parts/*/{suggestions.PART}")):
        assert process.poll() is None and time.monotonic() < deadline, "no shard was done"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {
        row["object_id"] for path in folder.glob("parts/*/*.parquet") for row in pq.read_table(path).to_pylist()
    }
    before, museum.pause = Counter(museum.asked), 0.0
    assert not (folder / suggestions.PARQUET).exists(), "it was done before it was killed"
    assert main(arguments) == 0
    return folder, finished, before


@pytest.fixture(scope="module")
def rows(annotated) -> dict[str, dict]:
    return {row["object_id"]: row for row in pq.read_table(annotated[0] / suggestions.PARQUET).to_pylist()}


def test_exactly_the_unlabelled_get_suggestions_and_the_confident_ones_are_right(rows, museum, classifier_dir):
    assert set(rows) == museum.unlabelled - {str(GONE), str(BROKEN)}
    certain = {key: row["label"] for key, row in rows.items() if row["label"] is not None}
    assert len(certain) > 15 and all(label == colour(int(key)) for key, label in certain.items())
    assert rows[str(MIXED)]["label"] is None and len(rows[str(MIXED)]["label_set"]) > 1
    assert rows[str(STRIPED)]["unlike"] and rows[str(STRIPED)]["reason"] == "uncertain"
    assert {row["model"] for row in rows.values()} == {classifier.digest(classifier_dir)}
    assert rows["0"]["link"] == "https://museum.example/0" and rows["0"]["image"].startswith("http://127.0.0.1")


def test_what_was_done_before_the_kill_is_not_done_again(annotated, museum):
    _, finished, before = annotated
    assert finished and all(museum.asked[int(key)] == before[int(key)] for key in finished if key != str(GONE))
    assert all(count == 1 for number, count in museum.asked.items() if str(number) in finished and number != GONE)


def test_what_could_not_be_had_is_listed_with_its_reason(annotated):
    with open(annotated[0] / suggestions.FAILURES, encoding="utf-8-sig", newline="") as file:
        found = {row["object_id"]: row for row in csv.DictReader(file)}
    assert {key: row["status"] for key, row in found.items()} == {str(GONE): "http_404", str(BROKEN): "not_an_image"}
    assert all(row["message"] and row["link"] for row in found.values())


def test_the_unsure_come_first_and_a_spreadsheet_runs_nothing(annotated):
    with open(annotated[0] / suggestions.CSV, encoding="utf-8-sig", newline="") as file:
        found = list(csv.DictReader(file))
    labels = [row["label"] for row in found]
    assert labels == sorted(labels, key=bool) and labels[0] == "" and found[0]["reason"] == "uncertain"
    assert next(row["title"] for row in found if row["object_id"] == "0") == "'=HYPERLINK(1)"
    mixed_row = next(row for row in found if row["object_id"] == str(MIXED))
    assert len(mixed_row["label_set"].split(suggestions.LIST_SEPARATOR)) > 1


def test_what_to_label_next_is_unsure_and_diverse(annotated, rows):
    with open(annotated[0] / suggestions.LABEL_NEXT, encoding="utf-8-sig", newline="") as file:
        found = [row["object_id"] for row in csv.DictReader(file)]
    assert found[0] == str(MIXED) and len(found) == len(set(found)) and set(found) <= set(rows)
    assert str(STRIPED) not in found


def test_of_equally_unsure_objects_the_one_that_is_unlike_the_others_comes_first():
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 1, 2]]
    chosen = label_next.choose(np.array([0.1, 0.1, 0.5, 0.9]), np.zeros(4), vectors, 3)
    assert chosen == [0, 2, 3]  # not 1: its twin is chosen
    assert label_next.choose(np.array([0.1]), np.array([0.2]), vectors[:1], 5) == [0]


def test_annotations_are_w3c_web_annotations(annotated, rows):
    content = json.loads((annotated[0] / suggestions.JSON_LD).read_text(encoding="utf-8"))
    assert content["@context"] == "http://www.w3.org/ns/anno.jsonld" and content["type"] == "AnnotationPage"
    found = {item["target"]["id"]: item for item in content["items"]}
    assert len(found) == len(content["items"]) == len(rows) == len({item["id"] for item in content["items"]})
    sure = found[rows["0"]["image"]]
    assert sure["body"]["value"] == "red" and sure["motivation"] == "classifying"
    assert sure["creator"]["id"] == f"urn:sha256:{rows['0']['model']}" and sure["creator"]["type"] == "Software"
    assert found[rows[str(MIXED)]["image"]]["body"]["type"] == "Choice"


def test_the_report_shows_them_and_asks_nobody(annotated):
    page = (annotated[0] / "report.html").read_text(encoding="utf-8")
    assert page.index("Unsure") < page.index("Labels</h2>") and "data:image/jpeg;base64," in page
    assert "Work 5 &lt;b&gt;" in page and "Work 5 <b>" not in page
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=[\"']?(https?:)?//", page)


def test_started_again_it_asks_for_nothing_but_what_may_have_passed(annotated, museum, classifier_dir, capsys):
    folder, asked = annotated[0], Counter(museum.asked)
    part = next(folder.glob("parts/*/*.parquet"))
    before = os.stat(part).st_mtime_ns
    arguments = ["annotate", "--model", classifier_dir, "--output", str(folder), *museum.arguments()]
    assert main(arguments) == 0
    assert museum.asked - asked == Counter() and os.stat(part).st_mtime_ns == before
    assert main([*arguments, "where=object_id < 3"]) == 2
    assert "holds suggestions for other objects (where differ): give another --output" in capsys.readouterr().err


def test_all_objects_with_their_known_labels(museum, classifier_dir, tmp_path):
    arguments = ["annotate", "--model", classifier_dir, "--output", str(tmp_path), "--take", "all", *museum.arguments()]
    assert main([*arguments, "where=CAST(object_id AS INT) IN (0, 1, 2)"]) == 0
    found = {row["object_id"]: row for row in pq.read_table(tmp_path / suggestions.PARQUET).to_pylist()}
    assert {key: row["known_label"] for key, row in found.items()} == {"0": "", "1": "green", "2": "blue"}


@pytest.mark.parametrize("numbers, expected", [("1, 2", {"1", "2"}), (str(BROKEN), set())])
def test_where_nothing_is_left_to_label(numbers, expected, museum, classifier_dir, tmp_path):
    """Objects that have a label already, and one without an image: the report and all tables are there."""
    arguments = ["annotate", "--model", classifier_dir, "--output", str(tmp_path), "--take", "all", *museum.arguments()]
    assert main([*arguments, f"where=CAST(object_id AS INT) IN ({numbers})", "max_failed_fraction=1"]) == 0
    assert {row["object_id"] for row in pq.read_table(tmp_path / suggestions.PARQUET).to_pylist()} == expected
    assert len((tmp_path / suggestions.LABEL_NEXT).read_text().splitlines()) == 1, "the heading alone"
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--coverage", "2"], "coverage=2.0 is not allowed"),
        (["--model", "/nowhere"], "there is no folder /nowhere"),
        (["--model", "http://museum.example"], "it is a web address"),
        (["nonsense=1"], "there is no parameter 'nonsense'"),
    ],
)
def test_a_mistake_is_one_line_before_any_work(arguments, message, museum, classifier_dir, tmp_path, capsys):
    out = tmp_path / "out"
    given = ["annotate", "--model", classifier_dir, "--output", str(out), *museum.arguments(), *arguments]
    assert main(given) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not out.exists()


def test_nothing_to_label_is_one_line(museum, classifier_dir, tmp_path, capsys):
    arguments = ["annotate", "--model", classifier_dir, "--output", str(tmp_path), *museum.arguments()]
    assert main([*arguments, "where=genre = 'red'"]) == 2
    assert "all 12 objects have a value in genre; take=all suggests for them too" in capsys.readouterr().err
