"""What a newcomer does: `make run` in a fresh clone, then every command that the run and the README name.

Only bigquery, flickr and a Kubeflow server are not here: tests/query and tests/cli have servers that play them; and
`export web`, which needs npm.
"""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from components.serve.local import free_port
from components.shared import sample
from tests.helpers.local_runs import ROOT, summary_of
from tests.helpers.process_memory import PeakMemory

GIGABYTE = 1 << 30
# Smaller than what a newcomer would run; the parameters are told after those of the README, which they replace.
SMALL = ["image_size=32", "epochs=1", "batch_size=16", "min_accuracy=0", "must_beat_guessing=false", "shards=1"]
ELSEWHERE = ("source=bigquery", "source=flickr", "submit --host", "doctor --host", "pipeline.py status", "export web")


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """The project in a folder of its own, with an environment where all is installed."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("cli", "components", "pipeline.py", "setup.cfg", "pyproject.toml", "constraints.txt", "Makefile"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    environment = folder / ".venv"
    environment.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (environment / name).symlink_to(Path(sys.prefix) / name)
    (environment / ".local").touch()  # make's mark of what is installed
    return folder


@pytest.fixture(scope="module")
def made(clone) -> tuple[str, int, Path]:
    """What `make run` printed, its peak memory in bytes, and the folder of the run."""
    # As from a shell: `make test ARGS=...` around this test would hand its variables on.
    outer = ("ARGS", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    process = subprocess.Popen(
        ["make", "run"], cwd=clone, env=environment, stdout=-1, stderr=subprocess.STDOUT, text=True
    )  # fmt: skip
    memory = PeakMemory(process.pid)
    printed = process.stdout.read()
    assert process.wait() == 0, printed
    return printed, memory.join(), (clone / "runs" / "latest").resolve()


@pytest.fixture(scope="module")
def collection(clone) -> Path:
    """The sample as files: objects.csv, images.csv, genre as a column; my-pictures, a folder per class; picture.jpg."""
    rows = [row for row in sample.rows(1) if row["culture"]][::6]
    with open(clone / "objects.csv", "w", newline="") as objects, open(clone / "images.csv", "w", newline="") as images:
        object_rows, image_rows = csv.writer(objects), csv.writer(images)
        object_rows.writerow(["object_id", "title", "genre"])
        image_rows.writerow(["object_id", "original_image_url"])
        for row in rows:
            name = f"{row['object_id']}.jpg"
            object_rows.writerow([row["object_id"], row["title"], row["culture"]])
            image_rows.writerow([row["object_id"], name])
            for folder in (clone / "web", clone / "my-images" / row["culture"]):
                folder.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(sample.picture(f"sample:1/{row['object_id']}"))
    shutil.copy(clone / "web" / f"{rows[0]['object_id']}.jpg", clone / "picture.jpg")
    return clone


def readme_commands() -> list[str]:
    """Every line of the README's shell blocks, without comments."""
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL))
    lines = [line.partition("  #")[0].strip() for line in blocks.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


# As after `. .venv/bin/activate`, which names the folder that it was made in.
ACTIVE = 'PATH="$PWD/.venv/bin:$PATH"; exec'


def shell(line: str, folder: Path, *more: str) -> subprocess.CompletedProcess:
    """The line as it stands, with `more` arguments, in a shell where the environment is active."""
    script = f"{ACTIVE} {line} {shlex.join(more)}"
    return subprocess.run(["sh", "-c", script], cwd=folder, capture_output=True, text=True)


@contextmanager
def running(line: str, folder: Path, path: str):
    """Runs a server in a shell until the block ends; yields its address once `path` answers."""
    port = free_port()
    script = f"{ACTIVE} {line} --port {port}"
    process = subprocess.Popen(["sh", "-c", script], cwd=folder, stdout=-1, stderr=subprocess.STDOUT, text=True)
    try:
        url = f"http://127.0.0.1:{port}"
        while True:
            assert process.poll() is None, process.stdout.read()
            try:
                urllib.request.urlopen(url + path, timeout=10).close()
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.communicate(timeout=60)


@contextmanager
def web(folder: Path):
    """The folder over real HTTP."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
def test_make_run_reaches_what_the_readme_says(clone, made):
    summary = summary_of(made[2])  # another test may have run since
    assert summary["status"] == "succeeded" and summary["metrics"]["test_accuracy"] >= 0.90, summary["metrics"]
    assert made[1] < 3 * GIGABYTE, f"{made[1] / GIGABYTE:.2f} GB"
    assert "installing" not in made[0]
    print(f"test accuracy {summary['metrics']['test_accuracy']:.3f}, at most {made[1] / GIGABYTE:.2f} GB")


@pytest.mark.slow
def test_every_command_printed_at_the_end(clone, made, collection):
    printed = made[0].partition("Try\n")[2].splitlines()
    commands = [line.strip().split("   ")[0] for line in printed if line.startswith("  ")]
    assert [command.split()[2] for command in commands] == ["serve", "predict", "tensorboard", "inspect"]
    assert all(command.startswith(".venv/bin/python pipeline.py ") for command in commands), commands
    serve, predict, tensorboard, inspect = commands
    done = shell(predict.replace("IMAGE_OR_URL", "picture.jpg"), clone)
    assert done.returncode == 0 and "%" in done.stdout, done.stderr
    done = shell(inspect, clone)
    assert done.returncode == 0 and "train" in done.stdout, done.stderr
    with running(tensorboard, clone, "/data/plugins_listing") as url:
        with urllib.request.urlopen(f"{url}/data/runs") as answer:
            assert json.load(answer)
    links = re.findall(r"file://(\S+)", made[0])
    assert len(links) == 5 and all(Path(link).read_text().startswith("<!doctype html>") for link in links)


@pytest.mark.slow
def test_the_readmes_commands(clone, made, collection):
    """All of them, in their order; a new one fails here until somebody says how it is run."""
    here = [line for line in readme_commands() if not any(word in line for word in ELSEWHERE)]
    left = dict.fromkeys(here)
    take = partial(_take, left)

    take("make run")  # ran above
    take(". .venv/bin/activate")  # which `shell` does
    with running(take("pipeline.py serve"), clone, "/") as url:
        done = shell(take("pipeline.py drift").replace("http://127.0.0.1:8080", url), clone)
        assert done.returncode == 0 and "predictions since" in done.stdout, done.stderr
    done = shell(take("pipeline.py predict"), clone)
    assert done.returncode == 0 and done.stdout.startswith("picture.jpg"), done.stderr
    done = shell(take("pipeline.py similar"), clone)
    assert done.returncode == 0 and done.stdout.startswith("picture.jpg"), done.stderr
    done = shell(take("pipeline.py review"), clone)
    assert done.returncode == 0 and "label_corrections=corrections.csv" in done.stdout, done.stderr
    with running(take("pipeline.py tensorboard"), clone, "/"):
        pass

    done = shell(take("pipeline.py runs"), clone)
    assert done.returncode == 0 and made[2].name in done.stdout and "latest" in done.stdout, done.stderr
    done = shell(take("pipeline.py museums"), clone)
    assert done.returncode == 0 and "rijksmuseum" in done.stdout, done.stderr

    done = shell(take("pipeline.py attributes"), clone)
    assert done.returncode == 0 and "genre" in done.stdout, done.stderr

    objects = (clone / "objects.csv").rename(clone / "away.csv")
    with web(clone / "web") as url:
        table = take("run source=table").replace("https://museum.example/", url)
        done = shell(table, clone, *SMALL)
        assert done.returncode == 1 and "error: query: " in done.stdout and "objects.csv" in done.stdout, done.stdout
        objects.rename(clone / "objects.csv")
        done = shell(take("run --resume"), clone)
    assert done.returncode == 0, done.stdout
    assert summary_of(clone / "runs" / "latest")["parameters"]["label"] == "genre"

    time.sleep(1)  # a run is named by its second
    done = shell(take("source=folder"), clone, *SMALL)
    assert done.returncode == 0, done.stdout
    assert summary_of(clone / "runs" / "latest")["parameters"]["data_source"] == "folder"
    done = shell(take("pipeline.py annotate"), clone, "--take", "all")
    assert done.returncode == 0 and (clone / "annotations" / "suggestions.csv").exists(), done.stdout + done.stderr

    done = shell(take("pipeline.py compile"), clone)
    assert done.returncode == 0 and (clone / "pipeline.yaml").exists(), done.stderr
    assert not left, f"the README names commands that nobody runs: {list(left)}"


def _take(left: dict[str, None], words: str) -> str:
    (line,) = [line for line in left if words in line]
    del left[line]
    return line
