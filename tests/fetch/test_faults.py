"""The fault matrix: one object a fault, fetched from a server that misbehaves on purpose, through the whole step."""

import importlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from components.fetch.failure import may_pass
from components.fetch.fetcher import fetch_shard
from tests.fakes.image_server import LARGE, Server, bomb, large_png
from tests.helpers.fetch_settings import fetch_settings
from tests.helpers.fetched_shards import QUICK, SHARD, read_log, read_tar, write_objects

DOCS = Path(__file__).parents[2] / "docs" / "fetch.md"
REFUSALS = 6
# Row of the table in docs/fetch.md: {name: (path or address, status in the log, attempts; None where chance decides)}
MATRIX = {
    "": {"fine": ("/ok/1.jpg", "ok", 1)},
    "400, 404, 405, 410, 416, 451, 204, 304": {
        str(status): (f"/status/{status}", f"http_{status}", 1) for status in (400, 404, 405, 410, 416, 451, 204, 304)
    }
    | {"no-such-file": ("no/such/file.jpg", "http_404", 1)},
    "403": {"403": ("/status/403", "http_403", 1)},
    "401, or a page that asks for a login": {
        "401": ("/status/401", "login", 1),
        "login-page": ("/page/403/login", "login", 1),
        "login-elsewhere": ("/login/now", "login", 1),
    },
    "a challenge page, with 200, 202, 403, 429 or 503": {
        f"challenge-{status}": (f"/page/{status}/challenge", "challenged", 1) for status in (200, 202, 403, 429, 503)
    }
    | {"challenge-by-header": ("/page/403/header", "challenged", 1)},
    "400, 403 or 429 that says of the size that it is not served": {
        f"size-{status}": (f"/page/{status}/size", "size_not_allowed", 1) for status in (400, 403, 429)
    },
    "408, 425, 500, 502, 503, 504, then fine": {
        "408-passes": ("/flaky/408/2/2.jpg", "ok", 3),
        "425-passes": ("/flaky/425/2/3.jpg", "ok", 3),
        "500-passes": ("/flaky/500/1/6.jpg", "ok", 2),
        "502-passes": ("/flaky/502/4/7.jpg", "ok", 5),
        "503-passes": ("/flaky/503/2/8.jpg", "ok", 3),
        "504-passes": ("/flaky/504/2/10.jpg", "ok", 3),
    },
    "500 or 503 for ever": {
        "500-for-ever": ("/status/500", "http_500", 5),
        "503-for-ever": ("/status/503", "http_503", 5),
    },
    "429, or 503 with Retry-After, then fine": {
        "429-passes": ("/flaky/429/3/4.jpg", "ok", 4),
        "429-with-retry-after": ("/flaky/429/1/5.jpg/1", "ok", 2),
        "503-with-retry-after": ("/flaky/503/1/9.jpg/1", "ok", 2),
    },
    "429 for ever": {"429-for-ever": ("/status/429", "http_429", REFUSALS)},
    "no address for the name": {"no-such-name": ("http://no-such-host.invalid/a.jpg", "dns", 1)},
    "HTML or nothing, with 200": {
        "html-with-200": ("/html", "not_an_image", 1),
        "empty-body": ("/empty", "not_an_image", 1),
    },
    "PNG called JPEG, JPEG called HTML": {
        "wrong-type": ("/wrong-type", "ok", 1),
        "png-called-jpeg": ("/png", "ok", 1),
    },
    "damaged image": {"damaged": ("/damaged", "corrupt", 1)},
    "body shorter than Content-Length, then fine": {"half-body-passes": ("/half/2", "ok", 3)},
    "body shorter than Content-Length for ever": {"half-body-for-ever": ("/half/99", "incomplete", 5)},
    "body cut off, no Content-Length, then fine": {
        "half-without-length-passes": ("/half-without-length/1", "ok", 2),
    },
    "the file itself is cut off": {"cut-file": ("/cut-file", "truncated", 2)},
    "body longer than Content-Length": {"longer-than-promised": ("/longer", "ok", None)},
    "body longer than Content-Length, in one packet": {
        name: (f"/raw/{name}", "ok", 1) for name in ("surplus", "surplus-answer", "surplus-and-close")
    },
    "chunked with a Content-Length, a Content-Length twice, 103 before 200": {
        name: (f"/raw/{name}", "ok", 1)
        for name in ("chunked-with-length", "chunked-with-wrong-length", "length-twice", "early-hints")
    },
    "two different lengths": {"two-lengths": ("/raw/two-lengths", "bad_response", 5)},
    "203; 206 of all bytes": {
        "203": ("/fine-status/203", "ok", 1),
        "206-of-all": ("/fine-status/206/all", "ok", 1),
    },
    "206 of a part": {"206-of-a-part": ("/fine-status/206/part", "http_206", 1)},
    "a cookie that must come back": {
        "cookie-to-itself": ("/cookie/self", "ok", 1),
        "cookie-to-another": ("/cookie/other", "ok", 1),
    },
    "connection reset, then fine": {"reset-passes": ("/reset/2/11.jpg", "ok", 3)},
    "connection reset for ever": {"reset-for-ever": ("/reset/99/12.jpg", "reset|incomplete", 5)},
    "accepts, never answers": {"never-answers": ("/never", "timeout|deadline", None)},
    "a byte now and then, in headers or body": {
        "slow-drip": ("/drip", "deadline", 1),
        "slow-drip-of-headers": ("/drip-headers", "deadline", 1),
    },
    "gzip or deflate that was not asked for": {
        "gzip": ("/gzip", "ok", 1),
        "x-gzip": ("/coding/x-gzip/1/gzip", "ok", 1),
        "deflate": ("/coding/deflate/2/zlib", "ok", 1),
        "raw-deflate": ("/coding/deflate/3/raw", "ok", 1),
        "gzip-in-chunks-of-s3": ("/coding/aws-chunked,gzip/4/gzip", "ok", 1),
    },
    "gzip that it is not; `utf-8`, `none`, `aws-chunked` for a coding": {
        f"coding-{number}": (f"/coding/{coding}/{number}", "ok", 1)
        for number, coding in enumerate(("gzip", "utf-8", "none", "aws-chunked", "UTF-8, identity", "binary"), 5)
    },
    "brotli that was not asked for": {"unasked-brotli": ("/brotli", "bad_response", 1)},
    "gzip bomb, endless body, Content-Length of 10 GB": {
        "gzip-bomb": ("/bomb", "too_large", 1),
        "endless-body": ("/endless", "too_large", 1),
        "claims-10-gb": ("/claims-much", "too_large", 1),
    },
    "50-megapixel PNG": {"50-megapixel-png": ("/large-png", "too_many_pixels", 1)},
    "an image of one colour, or wholly transparent": {
        "white": ("/blank/RGB", "ok", 1),
        "dark-grey": ("/blank/L", "ok", 1),
        "transparent": ("/blank/RGBA", "ok", 1),
    },
    "HEIC, JPEG XL, 12-bit or lossless JPEG, TIFF of floats, ...": {"heic": ("/heic", "unsupported", 1)},
    "JPEG that lacks only its end marker": {"without-end": ("/without-end", "ok", 1)},
    "3000 x 2 pixels": {"thin": ("/thin", "too_thin", 1)},
    "200 kB of headers": {"200-kb-of-headers": ("/long-headers", "ok|bad_response", None)},
    "no HTTP": {"no-http": ("/garbage", "bad_response", 5)},
    "up to 5 redirects": {"redirect": ("/redirect/5/13.jpg", "ok", 1)},
    "redirects in a circle, without end": {
        "redirect-loop": ("/loop/0", "redirect_loop", 1),
        "redirects-for-ever": ("/spiral/0", "too_many_redirects", 1),
    },
    "redirect to file:": {"redirect-to-file": ("/away?to=file:///etc/passwd", "bad_address", 1)},
    "redirect to nowhere": {"redirect-nowhere": ("/lost", "bad_response", 1)},
    "private address: written, by name, by redirect, in IPv6": {
        "redirect-to-metadata-service": ("/away?to=http://169.254.169.254/latest/meta-data/", "private_address", 1),
        "redirect-to-loopback-port": ("/away?to=http://127.0.0.1:9/x", "private_address", 1),
        "redirect-to-localhost": ("/away?to=http://localhost:9/x", "private_address", 1),
        "metadata-service": ("http://169.254.169.254/computeMetadata/v1/", "private_address", 1),
        "loopback": ("http://127.0.0.1:9/a.jpg", "private_address", 1),
        "loopback-in-hexadecimal": ("http://0x7f.1:9/a.jpg", "private_address", 1),
        "loopback-v6": ("http://[::1]:9/a.jpg", "private_address", 1),
        "mapped-v6": ("http://[::ffff:10.0.0.1]/a.jpg", "private_address", 1),
        "localhost": ("http://localhost:9/a.jpg", "private_address", 1),
        "private-network": ("http://10.1.2.3/a.jpg", "private_address", 1),
    },
    "file or bucket that neither table nor image_base names": {
        "file": ("file:///etc/hostname", "private_address", 1),
        "file-in-capitals": ("FILE:///etc/hostname", "private_address", 1),
        "bucket": ("s3://somebody/else.jpg", "private_address", 1),
    },
    "`noai`, `noimageai`, TDM-Reservation": {
        "noai": ("/header/X-Robots-Tag/noai", "noai", 1),
        "noimageai-for-us": ("/header/X-Robots-Tag/museum-classifier: noimageai", "noai", 1),
        "tdm-reservation": ("/header/TDM-Reservation/1", "noai", 1),
    },
    "`#`, blanks and other letters in a name": {
        "number-sign": ("/ok/No. #5.jpg", "ok", 1),
        "relative-number-sign": ("ok/No. #6.jpg", "ok", 1),
        "fragment": ("/ok/7.jpg#page=2", "ok", 1),
        "letters": ("/ok/Étude №8.jpg", "ok", 1),
    },
    "blanks, tabs, line ends or a byte order mark around it": {
        "tab": ("\t{}/ok/1.jpg", "ok", 1),
        "line-end": ("\n{}/ok/2.jpg\r\n", "ok", 1),
        "byte-order-mark": ("\ufeff{}/ok/3.jpg", "ok", 1),
        "no-break-blank": ("\u00a0{}/ok/4.jpg", "ok", 1),
        "capitals": ("{}/ok/5.jpg", "ok", 1),
    },
    "`noai` for other agents": {"noai-for-others": ("/header/X-Robots-Tag/otherbot: noai", "ok", 1)},
    "no address": {"no-address": ("", "no_address", 1)},
    "unknown scheme, no host, impossible port or name": {
        "ftp": ("ftp://example.org/a.jpg", "bad_address", 1),
        "data": ("data:image/png;base64,AAAA", "bad_address", 1),
        "no-host": ("http:///a.jpg", "bad_address", 1),
        "bad-port": ("http://example.org:99999/a.jpg", "bad_address", 1),
        "half-a-bracket": ("http://[::1/a.jpg", "bad_address", 1),
        "empty-label": ("http://a..b/x", "bad_address", 1),
        "label-of-70-letters": (f"http://{'x' * 70}.org/", "bad_address", 1),
        "damaged-punycode": ("http://xn--a.org/", "bad_address", 1),
        "redirect-to-empty-label": ("/away?to=http://a..b/x", "bad_address", 1),
        "loopback-as-number": ("http://2130706433:9/a.jpg", "bad_address", 1),
    },
}  # fmt: skip
FAULTS = {name: case for cases in MATRIX.values() for name, case in cases.items()}
# Rows that need a server, a store or a disk of their own: where they are tested.
ELSEWHERE = {
    "tdmrep.json reserves it": "test_robots.test_a_reservation_beside_robots_txt_is_heard",
    "connection refused": "test_download.test_no_one_listening",
    "Retry-After of more than 15 minutes": "test_hosts.test_a_host_that_asks_for_a_day_is_given_up_for_this_run",
    "all objects of a host that never answers": "test_fetcher.test_a_host_that_never_answers_ends_soon",
    "an image on which the decoder crashes": "test_crash.test_pictures_that_crash_the_decoder",
    "robots.txt forbids it, or asks for more than 60 s between requests":
        "test_robots.test_a_crawl_delay_beyond_reason_is_a_refusal",
    "robots.txt that cannot be understood (a web page, no text)":
        "test_robots.test_where_it_cannot_be_understood_nothing_is_fetched",
    "robots.txt that does not allow training (Content-Signal, Content-Usage)":
        "test_robots.test_a_host_that_does_not_want_training_is_left_alone",
    "5xx for robots.txt": "test_robots.test_status_of_robots_txt",
    "certificate not trusted": "test_download.test_tls_certificates_are_checked",
    "file or object that is not there": "test_fetcher.test_s3",
    "folder, device or pipe; access to the store denied or expired":
        "test_stores.test_keys_that_become_valid_are_tried_by_a_later_run",
    "store that answers 503 or not at all, for ever": "test_stores.test_a_store_in_trouble",
    "store that sends half and then nothing": "test_stores.test_a_store_that_stalls_has_a_deadline",
    "store that sends damaged bytes, then fine": "test_stores.test_a_store_in_trouble",
    "`kill -9` of a fetching process": "test_resume.test_a_process_that_is_killed_is_replaced",
    "`kill -9`, SIGTERM, Ctrl-C of the step": "test_resume.test_killed_in_the_middle",
    "disk full": "test_resume.test_full_disk",
}  # fmt: skip


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    """All faults in one shard: they must not get into each other's way either."""
    folder = tmp_path_factory.mktemp("faults")
    bomb(), large_png(*LARGE)  # made beforehand: the server should not be slow on top of all
    with Server() as server:
        addresses = {
            name: f"{server.url}{path}" if path.startswith("/") else path.format(server.url.replace("http", "HTTP"))
            for name, (path, *_) in FAULTS.items()
        }
        objects = write_objects(folder / "objects.parquet", addresses)
        base = f"{server.url}/"
        settings = fetch_settings(image_base=base, image_size=64, max_failed_fraction=1, requests_per_second=0)
        limits = replace(QUICK, refusals=REFUSALS)
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
    blank = FAULTS[fault][0].startswith("/blank/")
    assert bool(row["message"]) == (row["status"] != "ok" or blank)


def test_what_cannot_pass_is_asked_once(fetched):
    _, log, _, server = fetched
    for fault, (path, status, _) in FAULTS.items():
        if status != "ok" and "|" not in status and not may_pass(status) and status != "truncated":
            assert server.asked[path.split("?")[0]] <= (9 if "away" in path else 1), fault


def test_the_documented_matrix_is_the_tested_one():
    rows = _documented()
    assert set(rows) == (set(MATRIX) | set(ELSEWHERE)) - {""}
    for test in ELSEWHERE.values():
        module, _, function = test.partition(".")
        assert callable(getattr(importlib.import_module(f"tests.fetch.{module}"), function)), test


@pytest.mark.parametrize("row", [row for row in MATRIX if row])
def test_what_the_documentation_says_of(row):
    tries, status, later = _documented()[row]
    cases = MATRIX[row].values()
    reasons = {reason for _, reasons, _ in cases for reason in reasons.split("|")}
    named = set(re.findall(r"`([a-z_<>0-9]+)`", status))
    assert {re.sub(r"http_(?!429)\d+", "http_<status>", reason) for reason in reasons} == named
    failures = reasons - {"ok"}
    assert {may_pass(reason) for reason in failures} == ({later == "yes"} if failures else set())
    if tries.isdigit():
        assert {attempts for *_, attempts in cases} <= {int(tries), None}


@pytest.mark.parametrize("row", ELSEWHERE)
def test_what_the_documentation_says_of_later_attempts(row):
    _, status, later = _documented()[row]
    reasons = set(re.findall(r"`([a-z_0-9]+)`", status)) - {"ok"}
    passing = {may_pass(reason) for reason in reasons}
    assert passing == ({later == "yes"} if reasons else set())


def _documented() -> dict[str, tuple[str, str, str]]:
    """Rows of the table in docs/fetch.md: fault -> tries, status, later."""
    section = DOCS.read_text().partition("## Fault matrix")[2].partition("## ")[0]
    lines = [line.strip("| ").split("|") for line in section.splitlines() if line.startswith("| ")][1:]
    return {cells[0].strip(): tuple((*(cell.strip() for cell in cells[1:]), "")[:3]) for cells in lines}


def test_summary_counts_every_object(fetched):
    summary, log, pictures, _ = fetched
    assert summary.objects == len(log) == len(FAULTS)
    assert summary.failed == len(log) - len(pictures) == sum(summary.reasons.values())
    assert summary.metadata()["failed_private_address"] == summary.reasons["private_address"] >= 10


@pytest.mark.parametrize(
    "fault, said", [("white", "#ffffff"), ("dark-grey", "#1e1e1e"), ("transparent", "transparent")]
)
def test_a_picture_without_a_picture_is_told(fetched, fault, said):
    _, log, _, _ = fetched
    assert log[fault]["message"] == f"shows nothing: every pixel is {said}"


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
