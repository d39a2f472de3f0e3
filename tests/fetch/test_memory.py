"""Memory of the step's processes: independent of the collection's size, and of how many large pictures come at once."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from components.fetch.semaphore import SharedSemaphore
from components.fetch.settings import Settings
from tests.fakes.image_server import jpeg, large_png
from tests.helpers.fetch_settings import fetch_settings
from tests.helpers.fetch_step import STEP
from tests.helpers.fetched_shards import QUICK, SHARD, write_objects

MB = 1 << 20
# The step tells its own peak, and that of the largest of its processes, in MB. Without pandas, which the image has not,
# and which pyarrow loads where another package of the tests has brought it.
MEASURED = (
    """
import sys
class WithoutPandas:
    def find_spec(self, name, *_):
        if name == "pandas":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, WithoutPandas())
"""
    + STEP
    + """
import resource
own = open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]
print("peaks", int(own) // 1024, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""
)


def step(folder: Path, objects: str, settings: Settings, limits) -> subprocess.Popen:
    """The fetch step in a process of its own."""
    out = str(folder / "out")
    call = {"paths": [SHARD, objects, out, out], "settings": asdict(settings), "limits": asdict(limits)}
    return subprocess.Popen(
        [sys.executable, "-c", MEASURED, json.dumps(call)], cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def peaks(process: subprocess.Popen) -> tuple[int, int]:
    """Of the step and of its largest process, in MB, after its end."""
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    own, largest = output.rpartition("peaks ")[2].split()
    return int(own), int(largest)


@pytest.mark.slow
def test_twenty_thousand_rows(tmp_path):
    """The parent holds an index of the rows, not the rows."""
    (tmp_path / "small.jpg").write_bytes(jpeg(1, 64, 48))
    addresses = {f"o{index:05d}": "" if index % 10 else str(tmp_path / "small.jpg") for index in range(20_000)}
    objects = write_objects(tmp_path / "objects.parquet", addresses)
    settings = fetch_settings(image_base=str(tmp_path), image_size=32, max_failed_fraction=1)
    own, largest = peaks(step(tmp_path, objects, settings, replace(QUICK, processes=2)))
    assert own <= 120 and largest <= 120


def test_large_jpegs_are_never_decoded_whole(tmp_path):
    """Pictures of 24 megapixels, many at once, in one process."""
    (tmp_path / "large.jpg").write_bytes(jpeg(1, 6000, 4000))
    objects = write_objects(tmp_path / "objects.parquet", {f"o{index:02d}": "large.jpg" for index in range(40)})
    settings = fetch_settings(image_base=str(tmp_path), image_size=128)
    _, largest = peaks(step(tmp_path, objects, settings, replace(QUICK, deadline=60, max_bytes=64 * MB)))
    assert largest <= 120


# A machine as small as a pod of 2 GiB, on which decoding writes down when it begins and ends.
SMALL = """
import os
from components.fetch import semaphore
from components.shared import imaging

semaphore.BYTES_PER_HOLDER = 1 << 60
decode = imaging.EncodedImage.decode
events = os.open(os.environ["EVENTS"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)

def noted(*arguments):
    os.write(events, b"(")
    try:
        return decode(*arguments)
    finally:
        os.write(events, b")")

imaging.EncodedImage.decode = noted
"""


def test_large_pngs_are_decoded_in_turn(tmp_path, monkeypatch):
    """Of 12 megapixels and one of 39, in three processes: memory for one of them is enough."""
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "sitecustomize.py").write_text(SMALL)
    (tmp_path / "large.png").write_bytes(large_png(7000, 5600))
    (tmp_path / "medium.png").write_bytes(large_png(4000, 3000))
    addresses = {f"o{index:02d}": "medium.png" if index else "large.png" for index in range(24)}
    objects = write_objects(tmp_path / "objects.parquet", addresses)
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # locks of its own
    monkeypatch.setenv("EVENTS", str(tmp_path / "events"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "small"), str(Path(__file__).parents[2])]))
    settings = fetch_settings(image_base=str(tmp_path), image_size=128)
    _, largest = peaks(step(tmp_path, objects, settings, replace(QUICK, processes=3, deadline=300)))
    assert 150 <= largest <= 300, "157 MB in Pillow, and no copy of it"
    assert (tmp_path / "events").read_text() == "()" * 24


def test_turns(tmp_path):
    """Two at a time, over threads as over processes; the third waits."""
    turns = [SharedSemaphore(2, str(tmp_path)) for _ in range(3)]
    entered = threading.Event()

    def third() -> None:
        with turns[2]:
            entered.set()

    with turns[0]:
        with turns[1]:
            thread = threading.Thread(target=third)
            thread.start()
            assert not entered.wait(0.2)
        # Whichever it waits for comes free in the end.
    thread.join(timeout=60)
    assert entered.is_set()


def test_a_lock_that_belongs_to_somebody_else_stops_nobody(tmp_path):
    (tmp_path / "target").write_text("")
    turns = SharedSemaphore(1, str(tmp_path))
    Path(f"{turns._name}0").symlink_to(tmp_path / "target")
    with turns:
        pass
