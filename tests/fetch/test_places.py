"""A table from somewhere else cannot reach the user's own files and buckets."""

import csv
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from components.fetch.failure import Failure
from components.fetch.fetcher import fetch_shard
from components.fetch.places import check_place
from components.query import selection
from tests.fakes.image_server import jpeg
from tests.helpers.fetch_settings import fetch_settings
from tests.helpers.fetched_shards import QUICK, read_log


@pytest.mark.parametrize(
    "address, named, allowed",
    [
        ("/data/a.jpg", ["/data/objects.csv"], True),
        ("file:///data/a.jpg", ["objects.csv"], True),
        ("/data/a.jpg", ["file:///data/objects.csv"], True),
        ("/var/run/secrets/kubernetes.io/serviceaccount/token", ["https://museum.example/objects.csv"], False),
        ("file:///etc/passwd", ["https://museum.example/objects.csv"], False),
        ("File:///etc/passwd", ["https://museum.example/objects.csv"], False),
        ("/etc/passwd", ["gs://museum/objects.csv"], False),
        ("/etc/passwd", [], False),
        ("s3://mine/a.jpg", ["s3://mine/objects.csv"], True),
        ("s3://mine/a.jpg", ["s3://mine"], True),
        ("s3://mine2/a.jpg", ["s3://mine/objects.csv"], False),
        ("s3://mine?/a.jpg", ["s3://mine/objects.csv"], False),
        ("s3://mine@other/a.jpg", ["s3://mine/objects.csv"], False),
        ("gs://mine/a.jpg", ["s3://mine/objects.csv"], False),
        ("s3://other/a.jpg", ["objects.csv"], False),
        ("minio://mlpipeline/run/model.keras", ["https://museum.example/objects.csv"], False),
        ("gs://gcs-public-data--met/1/0.jpg", [], True),
        ("s3://gcs-public-data--met/1/0.jpg", [], False),
    ],
)
def test_files_and_buckets_only_where_the_user_pointed(address, named, allowed):
    for settings in (fetch_settings(named=tuple(named)), *(fetch_settings(image_base=place) for place in named)):
        if allowed:
            check_place(address, settings)
        else:
            with pytest.raises(Failure) as caught:
                check_place(address, settings)
            assert caught.value.reason == "private_address" and "allow_private_addresses" in str(caught.value)
    check_place(address, fetch_settings(named=tuple(named), allow_private_addresses=True))


@pytest.fixture
def table(tmp_path):
    """A CSV of which the pictures are a file that is none of the table's business; and the folder as a web site."""
    folder = tmp_path / "site"
    folder.mkdir()
    (tmp_path / "secret.jpg").write_bytes(jpeg(1))
    (folder / "public.jpg").write_bytes(jpeg(2))
    rows = [(str(index), "sculpture", str(tmp_path / "secret.jpg")) for index in range(4)]
    rows += [("9", "painting", "public.jpg"), ("uri", "painting", f"file://{tmp_path}/secret.jpg")]
    with open(folder / "objects.csv", "w", newline="") as file:
        csv.writer(file).writerows([("object_id", "kind", "original_image_url"), *rows])
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as site:
        threading.Thread(target=site.serve_forever, args=(0.02,), daemon=True).start()
        yield folder / "objects.csv", f"http://127.0.0.1:{site.server_address[1]}/objects.csv"
        site.shutdown()


def select_and_fetch(folder: Path, table: str, **settings) -> dict[str, str]:
    """Status by object, after a real query step and a real fetch step."""
    folder.mkdir()
    values = {"source": "table", "label": "kind", "min_images_per_class": 1, "shards": 1}
    paths = [str(folder / name) for name in ("objects.parquet", "labels.txt", "profile.html")]
    (shard,) = selection.select(selection.Settings(table=str(table), **values), *paths).shards
    chosen = fetch_settings(image_size=32, requests_per_second=0, max_failed_fraction=1, **settings)
    fetch_shard(shard, paths[0], str(folder / "out"), str(folder / "out"), chosen, QUICK)
    return {object_id: row["status"] for object_id, row in read_log(folder / "out").items()}


def test_a_remote_table_reads_no_files(table, tmp_path):
    _, url = table
    status = select_and_fetch(tmp_path / "run", url)
    assert status.pop("9") == "ok", "its own host is allowed, though private: the user typed it"
    assert status.pop("uri") == "private_address"
    assert set(status.values()) == {"http_404"}, "a path is one on the table's server"
    assert select_and_fetch(tmp_path / "allowed", url, allow_private_addresses=True)["uri"] == "ok"


def test_a_local_table_reads_files(table, tmp_path):
    path, _ = table
    assert set(select_and_fetch(tmp_path / "run", path).values()) == {"ok"}
