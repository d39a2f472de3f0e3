"""What is left of a run that was stopped, filled the disk, or could not fetch: all that it had done, and no process."""

import csv
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import duckdb
import pytest

from components.shared import sample
from tests.helpers.local_runs import TINY, command, line, processes_of, started, statuses, summary_of

# A process that pays no heed to SIGTERM, with a child that does not either.
STUBBORN = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("child", flush=True)
subprocess.run([sys.executable, "-c", "import time; time.sleep(3600)", sys.argv[1]])
"""
WATCHER = """
import os, sys
from cli import process_group
process_group.GRACE_SECONDS = 3600
with process_group.ProcessGroup() as group:
    try:
        group.start(["-c", {stubborn!r}, sys.argv[1]], os.environ, [])
        for text in group.process.stdout:
            print(text, end="", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    finally:
        group.end()
        print("written down", flush=True)
"""


@pytest.mark.slow
def test_stopped_in_any_way_it_is_written_down_and_goes_on_from_there(tmp_path):
    """Ctrl-C, a closed terminal, `kill`, and more of them while the first is at work."""
    arguments = ["run", "--root", tmp_path, "--name", "cut"]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for signals in (["SIGINT"], ["SIGHUP"], ["SIGTERM", "SIGINT", "SIGINT"]):
        more = ["--resume"] if (tmp_path / "cut").exists() else [*TINY, "epochs=1000"]
        process = started(line(*arguments, *more), env={**os.environ, "TMPDIR": str(scratch)})
        printed = _until(process, "steps")  # of training; the rest is cached
        for name in signals:
            process.send_signal(getattr(signal, name))
            printed += _until(process, "stopping…")
        printed += process.stdout.read()
        assert process.wait() == 130, printed
        assert "Traceback" not in printed and "error: train: interrupted" in printed and "--resume" in printed
        summary = summary_of(tmp_path / "cut")
        assert (summary["status"], summary["stopped_at"], summary["error"]) == ("failed", "train", "interrupted")
        assert processes_of(tmp_path / "cut") == "" and os.listdir(scratch) == []
    assert statuses(tmp_path / "cut")["assemble"] == "cached"


def _until(process: subprocess.Popen, word: str) -> str:
    printed = ""
    for text in process.stdout:
        printed += text
        if word in text:
            break
    return printed


def test_a_second_signal_kills_what_does_not_end_by_itself(tmp_path):
    code = WATCHER.format(stubborn=STUBBORN)
    process = started([sys.executable, "-c", code, str(tmp_path)])
    assert process.stdout.readline() == "child\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "interrupted\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "written down\n"
    assert process.wait() == 0 and processes_of(tmp_path) == ""


def test_where_hangups_are_ignored_the_run_goes_on(tmp_path):
    """`nohup make run` outlives its terminal."""
    code = WATCHER.format(stubborn=STUBBORN)
    wrapper = (
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    process = started([sys.executable, "-c", wrapper, sys.executable, "-c", code, str(tmp_path)])
    assert process.stdout.readline() == "child\n"
    (ignored,) = re.findall(r"^SigIgn:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    assert int(ignored, 16) & 1 << (signal.SIGHUP - 1)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system of so many kilobytes; returns its folder."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(kilobytes: int) -> Path:
        options = ["-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        done = subprocess.run(["mount", *options], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [300, 600, 2000])
def test_a_full_disk_is_one_line_and_written_down(small_disk, kilobytes):
    root = small_disk(kilobytes)
    done = command("run", "--root", root, "--name", "large", *TINY, "serve_enabled=false")
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    (error,) = [text for text in done.stdout.splitlines() if text.startswith("error: ")]
    assert "the disk is full" in error and "free some space" in error
    summary = summary_of(root / "large")
    assert summary["status"] == "failed" and error == f"error: {summary['stopped_at']}: {summary['error']}"
    assert processes_of(root / "large") == ""


def test_a_disk_without_room_for_a_run_is_one_line(small_disk):
    root = small_disk(4)
    done = command("run", "--root", root, "--name", "large", *TINY)
    assert done.returncode != 0 and "Traceback" not in done.stdout + done.stderr
    assert "No space left" in done.stderr or "the disk is full" in done.stdout


class Museum:
    """Pictures of the sample over real HTTP; `missing`, `down` and `silent` ones are gone, away or never answered."""

    def __init__(self, folder: Path) -> None:
        self.rows = [row for row in sample.rows(1) if row["culture"]][::4]
        self.missing: set[str] = set()
        self.silent: set[str] = set()
        self.down: set[str] = set()
        self.requests: Counter[str] = Counter()
        self.released = threading.Event()
        self.table = folder / "objects.csv"
        with open(self.table, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["object_id", "kind", "original_image_url"])
            writer.writerows([row["object_id"], row["culture"], f"{row['object_id']}.jpg"] for row in self.rows)

    @property
    def ids(self) -> list[str]:
        return [str(row["object_id"]) for row in self.rows]

    @contextmanager
    def served(self):
        """The address of the running server."""
        museum = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.strip("/").removesuffix(".jpg")
                museum.requests[name] += 1
                if name in museum.silent:
                    museum.released.wait()
                found = name in museum.ids and name not in museum.missing
                body = sample.picture(f"sample:1/{name}") if found else b"gone"
                self.send_response(503 if name in museum.down else 200 if found else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            self.released.set()
            server.shutdown()
            server.server_close()

    def arguments(self, url: str) -> list[str]:
        small = ["image_size=32", "min_images_per_class=2"]
        return ["source=table", f"table={self.table}", "label=kind", f"image_base={url}", *small]


@pytest.mark.slow
def test_pictures_that_were_fetched_are_not_asked_for_again(tmp_path):
    museum = Museum(tmp_path)
    museum.missing = set(museum.ids[::2])
    run = ["run", "--root", tmp_path / "runs", "--name", "holes"]

    def stops_at(stage: str, *arguments: str) -> dict[str, int]:
        """How often each picture has been asked for by then."""
        done = command(*run, *arguments)
        assert done.returncode == 1 and summary_of(tmp_path / "runs" / "holes")["stopped_at"] == stage, done.stdout
        return {name: museum.requests[name] for name in museum.ids}

    with museum.served() as url:
        # The data set is asked for more than there is: training refuses it at once.
        few = ["shards=1", "max_failed_fraction=0.1", "min_examples_per_class=1000"]
        asked = stops_at("fetch", *museum.arguments(url), *few)
        assert all(asked.values())
        assert stops_at("train", "--resume", "max_failed_fraction=0.9") == asked
        # Once more, now that the fetch has succeeded: its pictures are still good, only the check is another.
        assert stops_at("fetch", "--resume", "max_failed_fraction=0.2") == asked
        # Pictures of another size are other pictures.
        larger = stops_at("train", "--resume", "image_size=48", "max_failed_fraction=0.9")
        assert all(larger[name] > asked[name] for name in museum.ids)


@pytest.mark.slow
def test_pictures_of_a_museum_that_was_down_are_asked_for_again(tmp_path):
    """Also where each shard alone had not too many holes, so that assemble ended the run and not fetch."""
    museum = Museum(tmp_path)
    museum.down = set(museum.ids[::25])
    run = ["run", "--root", tmp_path / "runs", "--name", "down"]
    with museum.served() as url:
        # Training would be too long a wait: it refuses what the check asks for.
        asked_for = ["shards=4", "max_failed_fraction=0.03", "min_examples_per_class=1000"]
        done = command(*run, *museum.arguments(url), *asked_for)
        assert done.returncode == 1 and "of the pictures failed, mostly http_503 (7)" in done.stdout
        museum.down, asked = set(), dict(museum.requests)
        done = command(*run, "--resume")
        assert done.returncode == 1 and "of the pictures failed" not in done.stdout, done.stdout
    again = {name for name in museum.ids if museum.requests[name] > asked[name]}
    assert again == set(museum.ids[::25])


@pytest.mark.slow
def test_one_failed_shard_ends_the_run_at_once(tmp_path):
    museum = Museum(tmp_path)
    query = "SELECT CAST(md5_number_lower('shard:' || ?) % 3 AS INTEGER)"
    with duckdb.connect() as database:
        shards = {name: database.execute(query, [name]).fetchone()[0] for name in museum.ids}
    assert set(shards.values()) == {0, 1, 2}
    museum.missing = {name for name, shard in shards.items() if shard == 0}
    museum.silent = set(museum.ids) - museum.missing
    with museum.served() as url:
        # A shard that gets no answer takes three minutes to give up; two shards run side by side.
        arguments = ["--root", tmp_path / "runs", "--name", "one", *museum.arguments(url), "shards=3"]
        done = command("run", *arguments, timeout=150)
    assert done.returncode == 1
    summary = summary_of(tmp_path / "runs" / "one")
    assert summary["stopped_at"] == "fetch" and "of shard 00000-of-00003 could not be had" in summary["error"]
    assert not [name for name, shard in shards.items() if shard == 2 and museum.requests[name]], "it had not begun"
    assert processes_of(tmp_path / "runs" / "one") == ""
