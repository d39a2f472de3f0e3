"""Pictures in buckets: a real store behind a proxy that fails as told."""

from dataclasses import replace
from pathlib import Path

import pytest

from components.fetch.fetcher import FetchError, fetch_shard
from components.shared.storage import storage
from tests.fakes.image_server import jpeg
from tests.fakes.proxy import Proxy
from tests.helpers.fetch_settings import fetch_settings
from tests.helpers.fetched_shards import QUICK, SHARD, read_log, read_tar, write_objects


def fetch(folder: Path, bucket: str, names: list[str], limits=QUICK, uri: str = "", **settings):
    objects = write_objects(folder / "objects.parquet", {name: f"{bucket}/{name}.jpg" for name in names})
    values = {"image_base": bucket, "image_size": 32, "requests_per_second": 0, **settings}
    out = str(folder / "out")
    return fetch_shard(SHARD, objects, out, uri or out, fetch_settings(**values), limits)


@pytest.fixture
def behind_proxy(s3_bucket, s3_environment, monkeypatch):
    """A bucket with one picture, a.jpg, that fetching processes reach through a proxy."""
    storage.write_bytes(f"{s3_bucket}/a.jpg", jpeg(1))
    with Proxy(s3_environment) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        yield proxy, s3_bucket


def test_keys_that_become_valid_are_tried_by_a_later_run(tmp_path, s3_bucket, monkeypatch):
    storage.write_bytes(f"{s3_bucket}/a.jpg", jpeg(1))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "expired")
    with pytest.raises(FetchError, match="1 unreadable") as caught:
        fetch(tmp_path, s3_bucket, ["a"])
    assert "access denied: the credentials" in str(caught.value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    summary = fetch(tmp_path, s3_bucket, ["a"])
    assert summary.failed == 0 and list(read_tar(tmp_path / "out")) == ["a"]


@pytest.mark.parametrize(
    "faults, always, status, attempts",
    [
        ([503, 503], None, "ok", 3),
        (["reset"], None, "ok", 2),
        (["corrupt"], None, "ok", 2),
        (["cut"], None, "ok", 2),
        ([], 503, "storage", 5),
        ([], "reset", "storage", 5),
    ],
)
def test_a_store_in_trouble(tmp_path, behind_proxy, faults, always, status, attempts):
    """Each attempt is one request after another: the SDK and the storage layer do not repeat them on their own."""
    proxy, bucket = behind_proxy
    proxy.methods = ("GET",) if "corrupt" in faults or "cut" in faults else proxy.methods
    proxy.faults, proxy.always = faults, always
    fetch(tmp_path, bucket, ["a"], max_failed_fraction=1)
    row = read_log(tmp_path / "out")["a"]
    assert (row["status"], row["attempts"]) == (status, attempts), row
    assert len(proxy.requests) <= 2 * attempts


def test_a_store_that_stalls_has_a_deadline(tmp_path, behind_proxy):
    """A minute for each of the SDK's reads would be an hour for an object."""
    proxy, bucket = behind_proxy
    proxy.methods, proxy.always = ("GET",), "stall"
    fetch(tmp_path, bucket, ["a"], replace(QUICK, deadline=1.0), max_failed_fraction=1)
    row = read_log(tmp_path / "out")["a"]
    assert row["status"] == "deadline" and "1 s" in row["message"]
    assert row["seconds"] < 30


def test_nothing_of_a_picture_that_is_too_large_is_read(tmp_path, behind_proxy):
    proxy, bucket = behind_proxy
    storage.write_bytes(f"{bucket}/large.jpg", b"x" * (5 << 20))
    proxy.received.clear()
    fetch(tmp_path, bucket, ["large", "a"], max_failed_fraction=1)
    log = read_log(tmp_path / "out")
    assert (log["large"]["status"], log["a"]["status"]) == ("too_large", "ok")
    assert sum(proxy.received.values()) < 1 << 20


def test_a_log_that_cannot_be_stored_does_not_hide_the_reasons(tmp_path, behind_proxy):
    """The keys expire while the step runs: it still says why it failed."""
    proxy, bucket = behind_proxy
    storage._opened.clear()  # this process goes through the proxy as well
    proxy.methods, proxy.always = ("PUT",), "expired"
    with pytest.raises(FetchError) as caught:
        fetch(tmp_path, bucket, ["missing"], uri=f"{bucket}/run/images")
    message = str(caught.value)
    assert "1 not_found" in message and "not in the store" in message and "expired" in message
    assert str(tmp_path / "out" / "fetch-log.parquet") in message
