"""The fault matrix: one object a fault, fetched from a server that misbehaves on purpose, through the whole step."""

from dataclasses import replace

import pytest

from components.fetch.failure import may_pass
from components.fetch.fetcher import Settings, fetch_shard
from tests.fetch.server import LARGE, Server, bomb, large_png
from tests.fetch.shards import QUICK, SHARD, read_log, read_tar, write_objects

# fault: (path, status in the log, attempts, or None where chance decides)
FAULTS = {
    "fine": ("/ok/1.jpg", "ok", 1),
    "400": ("/status/400", "http_400", 1),
    "401": ("/status/401", "http_401", 1),
    "403": ("/status/403", "http_403", 1),
    "404": ("/status/404", "http_404", 1),
    "405": ("/status/405", "http_405", 1),
    "410": ("/status/410", "http_410", 1),
    "416": ("/status/416", "http_416", 1),
    "451": ("/status/451", "http_451", 1),
    "204": ("/status/204", "http_204", 1),
    "304": ("/status/304", "http_304", 1),
    "408-passes": ("/flaky/408/2/2.jpg", "ok", 3),
    "425-passes": ("/flaky/425/2/3.jpg", "ok", 3),
    "429-passes": ("/flaky/429/3/4.jpg", "ok", 4),
    "429-with-retry-after": ("/flaky/429/1/5.jpg/1", "ok", 2),
    "429-for-ever": ("/status/429", "http_429", 6),
    "500-passes": ("/flaky/500/1/6.jpg", "ok", 2),
    "502-passes": ("/flaky/502/4/7.jpg", "ok", 5),
    "503-passes": ("/flaky/503/2/8.jpg", "ok", 3),
    "503-with-retry-after": ("/flaky/503/1/9.jpg/1", "ok", 2),
    "504-passes": ("/flaky/504/2/10.jpg", "ok", 3),
    "500-for-ever": ("/status/500", "http_500", 5),
    "503-for-ever": ("/status/503", "http_503", 5),
    "html-with-200": ("/html", "not_an_image", 1),
    "wrong-type": ("/wrong-type", "ok", 1),
    "png-called-jpeg": ("/png", "ok", 1),
    "empty-body": ("/empty", "not_an_image", 1),
    "half-body-passes": ("/half/2", "ok", 3),
    "half-body-for-ever": ("/half/99", "incomplete", 5),
    "half-without-length-passes": ("/half-without-length/1", "ok", 2),
    "cut-file": ("/cut-file", "truncated", 2),
    "longer-than-promised": ("/longer", "ok", None),
    "reset-passes": ("/reset/2/11.jpg", "ok", 3),
    "reset-for-ever": ("/reset/99/12.jpg", "reset|incomplete", 5),
    "never-answers": ("/never", "timeout|deadline", None),
    "slow-drip": ("/drip", "deadline", 1),
    "slow-drip-of-headers": ("/drip-headers", "deadline", 1),
    "gzip": ("/gzip", "ok", 1),
    "gzip-bomb": ("/bomb", "too_large", 1),
    "unasked-brotli": ("/brotli", "bad_response", 1),
    "endless-body": ("/endless", "too_large", 1),
    "claims-10-gb": ("/claims-much", "too_large", 1),
    "50-megapixel-png": ("/large-png", "too_many_pixels", 1),
    "redirect": ("/redirect/3/13.jpg", "ok", 1),
    "redirect-loop": ("/loop/0", "redirect_loop", 1),
    "redirects-for-ever": ("/spiral/0", "too_many_redirects", 1),
    "redirect-nowhere": ("/lost", "bad_response", 1),
    "redirect-to-file": ("/away?to=file:///etc/passwd", "bad_address", 1),
    "redirect-to-metadata-service": ("/away?to=http://169.254.169.254/latest/meta-data/", "private_address", 1),
    "redirect-to-loopback-port": ("/away?to=http://127.0.0.1:9/x", "private_address", 1),
    "redirect-to-localhost": ("/away?to=http://localhost:9/x", "private_address", 1),
    "noai": ("/header/X-Robots-Tag/noai", "noai", 1),
    "noimageai-for-us": ("/header/X-Robots-Tag/museum-classifier: noimageai", "noai", 1),
    "noai-for-others": ("/header/X-Robots-Tag/otherbot: noai", "ok", 1),
    "tdm-reservation": ("/header/TDM-Reservation/1", "noai", 1),
    "no-http": ("/garbage", "bad_response", 5),
    "200-kb-of-headers": ("/long-headers", "ok|bad_response", None),
}  # fmt: skip
ADDRESSES = {
    "no-address": ("", "no_address"),
    "ftp": ("ftp://example.org/a.jpg", "bad_address"),
    "data": ("data:image/png;base64,AAAA", "bad_address"),
    "no-host": ("http:///a.jpg", "bad_address"),
    "bad-port": ("http://example.org:99999/a.jpg", "bad_address"),
    "metadata-service": ("http://169.254.169.254/computeMetadata/v1/", "private_address"),
    "loopback": ("http://127.0.0.1:9/a.jpg", "private_address"),
    "loopback-as-number": ("http://2130706433:9/a.jpg", "bad_address"),
    "loopback-in-hexadecimal": ("http://0x7f.1:9/a.jpg", "private_address"),
    "loopback-v6": ("http://[::1]:9/a.jpg", "private_address"),
    "mapped-v6": ("http://[::ffff:10.0.0.1]/a.jpg", "private_address"),
    "localhost": ("http://localhost:9/a.jpg", "private_address"),
    "private-network": ("http://10.1.2.3/a.jpg", "private_address"),
    "no-such-file": ("/no/such/file.jpg", "ok-or-http_404"),
}


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    """All faults in one shard: they must not get into each other's way either."""
    folder = tmp_path_factory.mktemp("faults")
    bomb(), large_png(*LARGE)  # made beforehand: the server should not be slow on top of all
    with Server() as server:
        addresses = {name: f"{server.url}{path}" for name, (path, *_) in FAULTS.items()}
        addresses |= {name: address for name, (address, _) in ADDRESSES.items()}
        objects = write_objects(folder / "objects.parquet", addresses)
        settings = Settings(image_base=f"{server.url}/", image_size=64, max_failed_fraction=1, requests_per_second=0)
        limits = replace(QUICK, refusals=6)
        summary = fetch_shard(SHARD, objects, str(folder / "out"), str(folder / "out"), settings, limits)
        yield summary, read_log(folder / "out"), read_tar(folder / "out"), server


@pytest.mark.parametrize("fault", FAULTS)
def test_fault(fetched, fault):
    _, log, pictures, _ = fetched
    _, status, attempts = FAULTS[fault]
    row = log[fault]
    assert row["status"] in status.split("|"), row
    assert attempts is None or row["attempts"] == attempts, row
    assert (fault in pictures) == (row["status"] == "ok")
    assert bool(row["message"]) == (row["status"] != "ok")


@pytest.mark.parametrize("kind", [kind for kind in ADDRESSES if kind != "no-such-file"])
def test_address(fetched, kind):
    _, log, _, server = fetched
    assert log[kind]["status"] == ADDRESSES[kind][1], log[kind]


def test_what_cannot_pass_is_asked_once(fetched):
    _, log, _, server = fetched
    for fault, (path, status, _) in FAULTS.items():
        if status != "ok" and "|" not in status and not may_pass(status) and status != "truncated":
            assert server.asked[path.split("?")[0]] <= (9 if "away" in path else 1), fault


def test_summary_counts_every_object(fetched):
    summary, log, pictures, _ = fetched
    assert summary.objects == len(log) == len(FAULTS) + len(ADDRESSES)
    assert summary.failed == len(log) - len(pictures) == sum(summary.reasons.values())
    assert summary.metadata()["failed_private_address"] == summary.reasons["private_address"] >= 10


def test_log_keeps_the_objects_columns(fetched):
    _, log, _, _ = fetched
    assert {row["rights"] for row in log.values()} == {"CC0"}
    assert {row["label"] for row in log.values()} == {"Étude"}


def test_metadata_beside_each_picture(fetched):
    _, log, pictures, _ = fetched
    _, metadata = pictures["fine"]
    assert metadata["label"] == "Étude" and metadata["rights"] == "CC0" and metadata["title"] is None
    assert (metadata["width"], metadata["height"]) == (200, 160)
    assert metadata["sha256"] == log["fine"]["sha256"] and metadata["bytes"] == log["fine"]["bytes"]
