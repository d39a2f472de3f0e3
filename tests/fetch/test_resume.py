"""Whatever ends a step, the next one continues: nothing lost, nothing twice, nothing fetched again."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from components.fetch.fetcher import FetchError, fetch_shard
from components.fetch.settings import Settings
from tests.fakes.image_server import Server
from tests.helpers.fetch_settings import fetch_settings
from tests.helpers.fetch_step import start_step
from tests.helpers.fetched_shards import QUICK, SHARD, read_log, read_tar, write_objects

COUNT = 70
LIMITS = replace(QUICK, host_connections=4, deadline=60, read_timeout=30)


def settings_for(server: Server, **changes) -> Settings:
    return fetch_settings(**{"image_base": server.url, "image_size": 32, "requests_per_second": 0, **changes})


def fetch(folder: Path, objects: str, settings: Settings, uri: str = "", limits=LIMITS):
    return fetch_shard(SHARD, objects, str(folder / "out"), uri or str(folder / "out"), settings, limits)


def wait_until(condition, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def logged(folder: Path) -> set[str]:
    """Addresses of the objects that the parts hold."""
    rows = set()
    for path in (folder / "out" / "parts").glob("*.jsonl"):
        rows |= {json.loads(line)["row"] for line in path.read_text().splitlines() if line.endswith("}")}
    return rows


def end_group(process: subprocess.Popen, number: int) -> str:
    workers = psutil.Process(process.pid).children() if number == signal.SIGKILL else []
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    for worker in workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.kill()
    return process.communicate(timeout=60)[0]


@pytest.fixture
def collection(tmp_path):
    """COUNT pictures that take 50 ms each."""
    with Server() as server:
        addresses = {f"o{index:03d}": f"{server.url}/slow/{index}" for index in range(COUNT)}
        yield server, write_objects(tmp_path / "objects.parquet", addresses), tmp_path


def assert_complete(folder: Path, count: int) -> None:
    log, pictures = read_log(folder / "out"), read_tar(folder / "out")
    assert len(log) == len(pictures) == count
    assert not (folder / "out" / "parts").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_in_the_middle(collection, number):
    server, objects, folder = collection
    limits = replace(LIMITS, processes=2, part_objects=10)
    step = start_step(folder, objects, settings_for(server), limits=limits)
    wait_until(lambda: len(logged(folder)) >= 30, step)
    output = end_group(step, number)
    assert step.returncode != 0
    if number != signal.SIGKILL:
        last = "error: interrupted" if number == signal.SIGINT else "start the step again to continue"
        assert output.strip().endswith(last) and "Traceback" not in output, output
    kept = logged(folder)
    summary = fetch(folder, objects, settings_for(server), limits=limits)
    assert summary.resumed == len(kept) >= 30
    assert_complete(folder, COUNT)
    again = {row for row in range(COUNT) if server.asked[f"/slow/{row}"] > 1}
    assert not again & kept, "what was kept is not fetched again"
    assert len(again) <= 8, "only what was under way is"


def test_a_process_that_is_killed_is_replaced(collection, capfd):
    """The kernel's way when memory runs out: the step goes on by itself."""
    server, objects, folder = collection
    step = start_step(folder, objects, settings_for(server), limits=replace(LIMITS, processes=2))
    wait_until(lambda: len(logged(folder)) >= 20, step)
    workers = [child for child in psutil.Process(step.pid).children() if "components.fetch.worker" in child.cmdline()]
    assert len(workers) == 2
    workers[0].kill()
    output = step.communicate(timeout=60)[0]
    assert step.returncode == 0, output
    assert "ended with status -9" in output
    assert_complete(folder, COUNT)
    assert {row["status"] for row in read_log(folder / "out").values()} == {"ok"}


def test_a_finished_shard_is_not_touched(collection):
    server, objects, folder = collection
    fetch(folder, objects, settings_for(server))
    asked = sum(server.asked.values())
    before = {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in (folder / "out").iterdir()}
    summary = fetch(folder, objects, settings_for(server))
    assert sum(server.asked.values()) == asked
    assert {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in (folder / "out").iterdir()} == before
    assert summary.objects == summary.resumed == COUNT and summary.failed == 0


def test_the_same_pictures_give_the_same_file(collection, tmp_path):
    """Whatever the order of arrival and the number of processes."""
    server, objects, folder = collection
    first = fetch(folder / "a", objects, settings_for(server), limits=replace(LIMITS, processes=1))
    second = fetch(folder / "b", objects, settings_for(server), limits=replace(LIMITS, processes=2, part_objects=7))
    assert first.objects == second.objects
    name = f"images-{SHARD}.tar"
    assert (folder / "a" / "out" / name).read_bytes() == (folder / "b" / "out" / name).read_bytes()


@pytest.mark.slow
def test_other_settings_or_objects_start_anew(collection):
    server, objects, folder = collection
    fetch(folder, objects, settings_for(server))
    fetch(folder, objects, settings_for(server, image_size=48))
    assert server.asked["/slow/7"] == 2
    addresses = {f"o{index:03d}": f"{server.url}/slow/{index + 1}" for index in range(20)}
    changed = write_objects(folder / "objects.parquet", addresses)
    fetch(folder, changed, settings_for(server, image_size=48))
    assert_complete(folder, 20)
    assert server.asked["/slow/20"] == 3


def test_only_faults_that_can_pass_are_tried_again(tmp_path):
    with Server() as server:
        addresses = {"fine": "/ok/1", "gone": "/status/410", "down": "/flaky/500/5/2", "html": "/html"}
        objects = write_objects(
            tmp_path / "objects.parquet", {name: server.url + path for name, path in addresses.items()}, others=0
        )
        with pytest.raises(FetchError) as caught:
            fetch(tmp_path, objects, settings_for(server, max_failed_fraction=0.5))
        assert "3 of 4 pictures" in str(caught.value)
        assert read_log(tmp_path / "out")["down"]["status"] == "http_500"
        summary = fetch(tmp_path, objects, settings_for(server, max_failed_fraction=0.5))
        assert summary.failed == 2 and summary.resumed == 3
        assert server.asked["/ok/1"] == server.asked["/status/410"] == server.asked["/html"] == 1
        assert sorted(read_tar(tmp_path / "out")) == ["down", "fine"]


def test_a_finished_shard_asks_again_for_what_can_have_passed(tmp_path):
    with Server() as server:
        addresses = {f"fine{number}": f"/ok/{number}" for number in range(3)} | {"down": "/flaky/500/5/2"}
        objects = write_objects(
            tmp_path / "objects.parquet", {name: server.url + path for name, path in addresses.items()}, others=0
        )
        assert fetch(tmp_path, objects, settings_for(server, max_failed_fraction=0.5)).failed == 1
        assert fetch(tmp_path, objects, settings_for(server, max_failed_fraction=0.5)).failed == 0
        assert server.asked["/ok/1"] == 1 and sorted(read_tar(tmp_path / "out")) == sorted(addresses)


@pytest.mark.parametrize("status", [401, 403])
def test_what_a_museum_refuses_today_it_may_give_tomorrow(tmp_path, status):
    with Server() as server:
        objects = write_objects(tmp_path / "objects.parquet", {"a": f"{server.url}/flaky/{status}/1/1"}, others=0)
        with pytest.raises(FetchError):
            fetch(tmp_path, objects, settings_for(server, max_failed_fraction=0.5))
        assert fetch(tmp_path, objects, settings_for(server)).failed == 0


@pytest.mark.parametrize("finished", [False, True])
def test_what_a_parameter_forbade_is_asked_for_once_it_allows(tmp_path, finished):
    """Whether the step failed for it, or ended with some pictures less."""
    with Server(robots="User-agent: *\nDisallow: /ok/1\n") as server, Server() as other:
        paths = {"fine": f"{server.url}/ok/2", "forbidden": f"{server.url}/ok/1", "private": f"{other.url}/ok/3"}
        paths |= {"noai": f"{server.url}/header/X-Robots-Tag/noai"}
        objects = write_objects(tmp_path / "objects.parquet", paths)
        with contextlib.nullcontext() if finished else pytest.raises(FetchError):
            fetch(tmp_path, objects, settings_for(server, max_failed_fraction=float(finished)))
        first = {name: row["status"] for name, row in read_log(tmp_path / "out").items()}
        assert first == {"fine": "ok", "forbidden": "robots", "private": "private_address", "noai": "noai"}
        summary = fetch(tmp_path, objects, settings_for(server, max_failed_fraction=1.0, respect_robots=False))
        assert summary.reasons == {"private_address": 1}
        loosened = settings_for(server, max_failed_fraction=1.0, respect_robots=False, allow_private_addresses=True)
        assert fetch(tmp_path, objects, loosened).failed == 0
        assert server.asked["/ok/2"] == 1, "what is there is not fetched again"
        assert {name: row["status"] for name, row in read_log(tmp_path / "out").items()} == dict.fromkeys(first, "ok")
        assert list(read_tar(tmp_path / "out")) == sorted(first)


def test_pictures_had_without_asking_are_not_reused_when_robots_txt_counts(tmp_path):
    with Server(robots="User-agent: *\nDisallow: /ok/1\n") as server:
        addresses = {"a": f"{server.url}/ok/1", "b": f"{server.url}/ok/2", "gone": f"{server.url}/status/404"}
        objects = write_objects(tmp_path / "objects.parquet", addresses)
        with pytest.raises(FetchError, match="1 of 3"):
            fetch(tmp_path, objects, settings_for(server, respect_robots=False, max_failed_fraction=0))
        summary = fetch(tmp_path, objects, settings_for(server, max_failed_fraction=1))
        assert summary.resumed == 0 and list(read_tar(tmp_path / "out")) == ["b"]
        assert read_log(tmp_path / "out")["a"]["status"] == "robots"


@pytest.mark.slow
def test_a_pod_with_an_empty_disk_continues_from_the_store(collection, s3_bucket):
    server, objects, folder = collection
    from components.shared.storage import storage

    uri = f"{s3_bucket}/run-1/fetch/images"
    limits = replace(LIMITS, processes=2, part_objects=10)
    step = start_step(folder / "pod-1", objects, settings_for(server), uri, limits)
    stored = f"{s3_bucket}/run-1/fetch"
    wait_until(lambda: sum(file.uri.endswith(".jsonl") for file in storage.list_files(stored)) >= 2, step)
    end_group(step, signal.SIGKILL)
    assert not storage.list_files(uri), "the next step downloads all that is in the artifact"
    summary = fetch(folder / "pod-2", objects, settings_for(server), uri, limits)
    assert summary.resumed >= 20
    assert_complete(folder / "pod-2", COUNT)
    assert sum(server.asked[f"/slow/{row}"] > 1 for row in range(COUNT)) <= COUNT - summary.resumed
    assert storage.list_files(f"{s3_bucket}/run-1") == [], "nothing is left behind"


def test_log_of_a_failed_step_is_put_beside_the_artifact(tmp_path, s3_bucket):
    from components.shared.storage import storage

    with Server() as server:
        objects = write_objects(tmp_path / "objects.parquet", {"a": f"{server.url}/status/404"})
        with pytest.raises(FetchError) as caught:
            fetch(tmp_path, objects, settings_for(server), f"{s3_bucket}/run/images")
    assert f"{s3_bucket}/run/images/fetch-log.parquet" in str(caught.value)
    assert storage.exists(f"{s3_bucket}/run/images/fetch-log.parquet")


def test_a_line_that_was_cut_off_does_not_count(tmp_path):
    """A crash in the middle of a write, as the file system may leave it."""
    with Server() as server:
        objects = write_objects(tmp_path / "objects.parquet", {f"o{i}": f"{server.url}/ok/{i}" for i in range(9)})
        settings = settings_for(server, max_failed_fraction=0)
        step_folder = tmp_path / "out"
        with pytest.raises(FetchError):
            bad = write_objects(
                tmp_path / "bad.parquet",
                {f"o{i}": f"{server.url}/ok/{i}" if i else f"{server.url}/html" for i in range(9)},
            )
            fetch(tmp_path, bad, settings)
        (lines,) = (step_folder / "parts").glob("*.jsonl")
        data = lines.read_bytes()
        lines.write_bytes(data[:-20])
        (tar,) = (step_folder / "parts").glob("*.tar")
        tar.write_bytes(tar.read_bytes()[:-1000])
        fetch(tmp_path, objects, settings)
    assert_complete(tmp_path, 9)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 200 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_full_disk(collection, small_disk):
    """One clear line, and what fitted is kept."""
    server, objects, _ = collection
    settings = settings_for(server, image_size=128)
    step = start_step(small_disk, objects, settings, limits=LIMITS)
    output = step.communicate(timeout=60)[0]
    assert step.returncode == 1
    assert "error: the disk is full" in output.strip().splitlines()[-1] and "Traceback" not in output, output
    kept = logged(small_disk)
    assert kept
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    summary = fetch(small_disk, objects, settings)
    assert summary.resumed >= len(kept) - 1
    assert_complete(small_disk, COUNT)


def test_full_disk_is_an_os_error(collection, small_disk):
    server, objects, _ = collection
    with pytest.raises(OSError) as caught:
        fetch(small_disk, objects, settings_for(server, image_size=128))
    assert caught.value.errno == errno.ENOSPC
