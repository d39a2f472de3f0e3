"""The step's outside: sources, parameters, summary, and errors that say what to do."""

import contextlib
import json
import os
import shutil
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from components.fetch import fetcher
from components.fetch.failure import Failure
from components.fetch.fetcher import FetchError, fetch_shard
from components.fetch.objects import located
from components.shared import cores, imaging, sample
from components.shared.errors import PipelineError, TransientError
from tests.fakes.image_server import Server, jpeg
from tests.helpers.fetch_settings import fetch_settings
from tests.helpers.fetched_shards import QUICK, SHARD, read_log, read_tar, write_objects


def fetch(folder: Path, addresses: dict[str, str], limits=QUICK, others: int = 3, **settings):
    objects = write_objects(folder / "objects.parquet", addresses, others)
    values = {"image_size": 32, "requests_per_second": 0, **settings}
    return fetch_shard(SHARD, objects, str(folder / "out"), str(folder / "out"), fetch_settings(**values), limits)


def test_stored_pictures_have_the_geometry(tmp_path):
    with Server() as server:
        fetch(tmp_path, {"a": f"{server.url}/ok/3"}, image_base=server.url, image_size=64)
    picture, metadata = read_tar(tmp_path / "out")["a"]
    expected = imaging.resize_short_side(imaging.decode(jpeg(3), 64), 64)
    stored = imaging.decode(picture)
    assert stored.shape == expected.shape == (64, 80, 3)
    assert np.abs(stored.astype(int) - expected.astype(int)).mean() < 5
    assert (metadata["width"], metadata["height"]) == (200, 160)


def test_files(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a b#1.jpg").write_bytes(jpeg(1))
    (tmp_path / "secret.jpg").write_bytes(jpeg(2))
    os.mkfifo(tmp_path / "pictures" / "pipe.jpg")  # whoever opens it waits for ever
    addresses = {
        "relative": "a b#1.jpg", "absolute": str(tmp_path / "secret.jpg"), "uri": f"file://{tmp_path}/secret.jpg",
        "missing": "none.jpg", "folder": ".", "pipe": "pipe.jpg",
        "outside": "../secret.jpg", "sly": "x/../../secret.jpg",
    }  # fmt: skip
    fetch(tmp_path, addresses, image_base=str(tmp_path / "pictures"), max_failed_fraction=1)
    status = {name: row["status"] for name, row in read_log(tmp_path / "out").items()}
    assert status == {
        "relative": "ok", "absolute": "ok", "uri": "ok", "missing": "not_found", "folder": "unreadable",
        "pipe": "unreadable",
        "outside": "bad_address", "sly": "bad_address",
    }  # fmt: skip


def test_sample(tmp_path):
    ids = [row["object_id"] for row in sample.rows(1)[:40]]
    summary = fetch(
        tmp_path, {str(id_): f"sample:1/{id_}" for id_ in ids} | {"none": "sample:1/99"}, max_failed_fraction=1
    )
    log = read_log(tmp_path / "out")
    assert log.pop("none")["status"] == "not_found"
    assert sum(row["status"] == "ok" for row in log.values()) >= 35
    assert summary.failed == 41 - len(read_tar(tmp_path / "out"))


def test_s3(tmp_path, s3_bucket):
    from components.shared.storage import storage

    storage.write_bytes(f"{s3_bucket}/met/1/0.jpg", jpeg(1))
    storage.write_bytes(f"{s3_bucket}/met/2/0.jpg", b"x" * (5 << 20))
    addresses = {"a": f"{s3_bucket}/met/1/0.jpg", "b": f"{s3_bucket}/met/3/0.jpg", "large": f"{s3_bucket}/met/2/0.jpg"}
    addresses |= {"relative": "1/0.jpg", "outside": "../../other/x.jpg"}
    fetch(tmp_path, addresses, image_base=f"{s3_bucket}/met", max_failed_fraction=1)
    status = {name: row["status"] for name, row in read_log(tmp_path / "out").items()}
    assert status == {"a": "ok", "b": "not_found", "large": "too_large", "relative": "ok", "outside": "bad_address"}


def test_gs(tmp_path, gs_bucket):
    from components.shared.storage import storage

    storage.write_bytes(f"{gs_bucket}/1/0.jpg", jpeg(1))
    addresses = {"a": f"{gs_bucket}/1/0.jpg", "b": f"{gs_bucket}/2/0.jpg"}
    fetch(tmp_path, addresses, image_base=gs_bucket, max_failed_fraction=1)
    assert {name: row["status"] for name, row in read_log(tmp_path / "out").items()} == {"a": "ok", "b": "not_found"}


def test_too_many_failures_say_the_commonest_reasons(tmp_path):
    with Server() as server:
        faults = ["/status/404"] * 5 + ["/html"] * 4 + ["/status/410"] * 3 + ["/loop/0"] * 2 + ["/ok/1"] * 6
        addresses = {f"o{index:02d}": f"{server.url}{path}" for index, path in enumerate(faults)}
        with pytest.raises(FetchError) as caught:
            fetch(tmp_path, addresses, image_base=server.url, max_failed_fraction=0.2)
        message = str(caught.value)
        assert "14 of 20 pictures" in message and "max_failed_fraction=0.2" in message
        assert "5 http_404, 4 not_an_image, 3 http_410 " in message and "redirect_loop" not in message
        assert f"{server.url}/status/404: HTTP 404" in message and "fetch-log.parquet" in message
        assert not (tmp_path / "out" / f"images-{SHARD}.tar").exists()


def test_the_threshold_itself_is_allowed(tmp_path):
    with Server() as server:
        addresses = {"a": f"{server.url}/ok/1", "b": f"{server.url}/status/404"}
        summary = fetch(tmp_path, addresses, image_base=server.url, max_failed_fraction=0.5)
    assert summary.failed == 1
    assert str(summary).startswith(f"shard {SHARD}: 1 of 2 pictures") and str(summary).endswith("1 failed: 1 http_404")
    metadata = summary.metadata()
    assert metadata["objects"] == 2 and metadata["ok"] == 1 and metadata["failed_http_404"] == 1
    assert all(isinstance(value, (int, float, str)) for value in json.loads(json.dumps(metadata)).values())


def test_a_small_shard_may_have_more_failures_than_the_collection(tmp_path):
    """One of four is a quarter, of the whole it is little: assemble knows the whole."""
    with Server() as server:
        addresses = {f"o{k}": f"{server.url}{'/status/404' if k == 0 else f'/ok/{k}'}" for k in range(4)}
        assert fetch(tmp_path, addresses, others=16, image_base=server.url, max_failed_fraction=0.2).failed == 1


def test_a_shard_that_is_too_many_for_the_whole_fails(tmp_path):
    with Server() as server:
        addresses = {f"o{k}": f"{server.url}/status/404/{k}" for k in range(5)}
        with pytest.raises(FetchError, match="5 of 5 pictures .* max_failed_fraction=0.2 of all 24"):
            fetch(tmp_path, addresses, others=19, image_base=server.url, max_failed_fraction=0.2)


@pytest.mark.parametrize(("path", "passes"), [("/status/503", True), ("/status/404", False)])
def test_what_the_step_tries_again_by_itself(tmp_path, path, passes):
    """A museum that is away for some minutes ends no run; one that has no such pictures does at once."""
    limits = replace(QUICK, attempts=1)
    with Server() as server:
        addresses = {f"o{k}": f"{server.url}{path if k else '/ok/0'}" for k in range(4)}
        with pytest.raises(FetchError) as caught:
            fetch(tmp_path, addresses, limits, image_base=server.url, max_failed_fraction=0.2)
    assert isinstance(caught.value, TransientError) == passes


def test_a_shard_whose_host_is_down_fails(tmp_path):
    """However large the collection is: the other shards will not find it otherwise."""
    limits = replace(QUICK, host_patience=0, attempts=1)
    addresses = {f"o{k}": f"http://no-such-host.invalid/{k}.jpg" for k in range(3)}
    with pytest.raises(FetchError, match="3 of them because their host cannot be reached"):
        fetch(tmp_path, addresses, limits, others=1000, max_failed_fraction=0.2)


def test_a_host_that_never_answers_ends_soon(tmp_path):
    """Hundreds of objects on a dead host: the step fails after the host's time, not after hundreds of timeouts."""
    with Server() as server:
        addresses = {f"o{index:03d}": f"{server.url}/never/{index}" for index in range(200)}
        limits = replace(QUICK, host_failures=3, host_patience=1.0, read_timeout=0.3)
        with pytest.raises(FetchError) as caught:
            fetch(tmp_path, addresses, limits, image_base=server.url)
        assert "host_down" in str(caught.value)
        assert sum(server.asked.values()) < 60


def test_a_429_storm_is_weathered(tmp_path):
    """Every picture arrives although the server refuses whoever asks more than 25 times a second."""
    with Server() as server:
        addresses = {f"o{index:03d}": f"{server.url}/storm/25/{index}" for index in range(60)}
        limits = replace(QUICK, refusals=50, deadline=60, recovery=1.0, processes=2)
        summary = fetch(tmp_path, addresses, limits, image_base=server.url)
    assert summary.failed == 0 and len(read_tar(tmp_path / "out")) == 60


def test_an_object_that_is_always_refused_ends(tmp_path):
    """Not after so many refusals, each with a pause of its own, but after a time."""
    with Server() as server:
        addresses = {"a": f"{server.url}/status/429", "b": f"{server.url}/ok/1"}
        limits = replace(QUICK, refusals=10**9, patience=1.0, deadline=10**6)
        fetch(tmp_path, addresses, limits, image_base=server.url, max_failed_fraction=1)
    assert read_log(tmp_path / "out")["a"]["status"] in ("http_429", "host_down")


def test_the_shards_share_the_pace(tmp_path):
    """40 requests per second, of which one of eight shards takes 5."""
    shard = "00000-of-00008"
    with Server() as server:
        addresses = {f"o{index:02d}": f"{server.url}/ok/{index}" for index in range(9)}
        objects = write_objects(tmp_path / "objects.parquet", addresses)
        settings = fetch_settings(image_base=server.url, image_size=32, requests_per_second=40, respect_robots=False)
        fetch_shard(shard, objects, str(tmp_path / "out"), str(tmp_path / "out"), settings, QUICK)
        assert max(server.times) - min(server.times) > 1.4


def test_as_many_shards_share_the_pace_as_run_side_by_side():
    compiled = (Path(__file__).parents[1] / "golden" / "pipeline.yaml").read_text()
    assert f"parallelismLimit: {fetcher._SIDE_BY_SIDE}\n" in compiled


def test_processes_by_the_limit_of_the_container(tmp_path, monkeypatch):
    """A node of 64 cores, of which the container may use two: two processes, not 64."""
    cgroup = tmp_path / "cgroup"
    cgroup.mkdir()
    (cgroup / "cpu.max").write_text("200000 100000\n")
    monkeypatch.setattr(cores, "CGROUP", cgroup)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))
    started = []
    monkeypatch.setattr(fetcher.pool, "run", lambda job, *rest: started.append(job.processes))
    monkeypatch.setattr(fetcher._Work, "write_log", lambda self: None)
    for quota in ("200000 100000\n", "max 100000\n"):
        (cgroup / "cpu.max").write_text(quota)
        with contextlib.suppress(FileNotFoundError):  # nothing was fetched: there is no log to count
            fetch(tmp_path, {f"o{index:04d}": "" for index in range(1000)}, replace(QUICK, processes=0))
    assert started == [2, 8]


def test_an_empty_shard(tmp_path):
    summary = fetch(tmp_path, {})
    assert summary.objects == 0 and summary.failed == 0
    assert read_tar(tmp_path / "out") == {} and read_log(tmp_path / "out") == {}


def test_progress_is_said_while_nothing_ends(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("PROGRESS_SECONDS", "0.5")
    with Server() as server:
        fetch(tmp_path, {"a": f"{server.url}/never"}, image_base=server.url, max_failed_fraction=1)
    lines = capfd.readouterr().out.splitlines()
    assert "progress: 0/1 images, 0/s" in lines and sum("1/1 images" in line for line in lines) == 1


def test_progress_reaches_the_total(tmp_path, capfd):
    with Server() as server:
        fetch(tmp_path, {f"o{index}": f"{server.url}/ok/{index}" for index in range(20)}, image_base=server.url)
    assert "progress: 20/20 images" in capfd.readouterr().out


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"image_size": 4}, "image_size"),
        ({"jpeg_quality": 101}, "jpeg_quality"),
        ({"max_failed_fraction": 1.5}, "max_failed_fraction"),
        ({"requests_per_second": -1}, "requests_per_second"),
        ({"contact": "a\r\nX-Evil: 1"}, "contact"),
    ],
)
def test_settings_out_of_range(changes, named):
    with pytest.raises(PipelineError, match=named):
        fetch_settings(**changes)


@pytest.mark.parametrize("shard", ["3", "00000-of-2", "../../x", "00000-of-00002/.."])
def test_names_that_are_no_shard(tmp_path, shard):
    objects = write_objects(tmp_path / "objects.parquet", {"a": "/x"})
    with pytest.raises(PipelineError, match="shard"):
        fetch_shard(shard, objects, str(tmp_path / "out"), "", fetch_settings(), QUICK)


def test_objects_that_are_none(tmp_path):
    (tmp_path / "objects.parquet").write_bytes(b"no parquet")
    with pytest.raises(PipelineError, match="objects.parquet"):
        fetch_shard(SHARD, str(tmp_path / "objects.parquet"), str(tmp_path / "out"), "", fetch_settings(), QUICK)
    table = pq.read_table(write_objects(tmp_path / "o.parquet", {"a": "/x"})).drop_columns("image_uri")
    pq.write_table(table, tmp_path / "o.parquet")
    with pytest.raises(PipelineError, match="no column image_uri"):
        fetch_shard(SHARD, str(tmp_path / "o.parquet"), str(tmp_path / "out"), "", fetch_settings(), QUICK)


def test_object_ids_cannot_leave_the_folder(tmp_path):
    with pytest.raises(PipelineError, match="object_id"):
        fetch(tmp_path, {"../../etc/passwd": "/x"})


@pytest.mark.parametrize(
    "uri, base, expected",
    [
        ("https://a.org/x.jpg", "http://b.org", "https://a.org/x.jpg"),
        ("x.jpg", "http://b.org/pictures/", "http://b.org/pictures/x.jpg"),
        ("/x.jpg", "http://b.org/pictures", "http://b.org/pictures/x.jpg"),
        ("//cdn.org/x.jpg", "http://b.org", "https://cdn.org/x.jpg"),
        ("/data/x.jpg", "", "/data/x.jpg"),
        ("/data/x.jpg", "/pictures", "/data/x.jpg"),
        ("sub/x.jpg", "gs://bucket/pictures", "gs://bucket/pictures/sub/x.jpg"),
        ("sample:1/1001", "http://b.org", "sample:1/1001"),
    ],
)
def test_located(uri, base, expected):
    assert located(uri, base) == expected


@pytest.mark.parametrize(
    "uri, base", [("", ""), ("javascript:x", ""), ("../x", "/pictures"), ("a/../../x", "gs://b/p")]
)
def test_located_refuses(uri, base):
    with pytest.raises(Failure):
        located(uri, base)


@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed (apt-get install nginx-light)")
def test_a_real_server(tmp_path):
    """nginx, as museums run it: hundreds of pictures over a few kept connections."""
    from benchmarks.fetch import Nginx

    folder = tmp_path / "nginx"
    folder.mkdir()
    with Nginx(folder) as nginx:
        nginx.write_pictures(5, 100, 200)
        addresses = {f"o{index:03d}": f"{nginx.base}/{index}/{index % 5}.jpg" for index in range(300)}
        addresses["missing"] = f"{nginx.base}/nothing.jpg"
        with urllib.request.urlopen(f"{nginx.base}/0/0.jpg") as response:
            assert response.status == 200
        summary = fetch(tmp_path, addresses, image_base=nginx.base)
    assert summary.reasons == {"http_404": 1}
    assert len(read_tar(tmp_path / "out")) == 300
