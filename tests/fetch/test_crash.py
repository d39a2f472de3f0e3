"""A decoder that aborts its process, as a damaged native library does; and processes that cannot work at all."""

import pytest

from components.fetch import pool
from components.fetch.fetcher import fetch_shard
from components.shared.errors import TransientError
from tests.fakes.image_server import Server
from tests.helpers.fetch_settings import fetch_settings
from tests.helpers.fetched_shards import QUICK, SHARD, read_log, write_objects

# Python runs a `sitecustomize` that it finds on its path before anything else.
ABORTS = """
import sys
if "components.fetch.worker" in sys.orig_argv:
    import os
    import simplejpeg

    decode = simplejpeg.decode_jpeg

    def fragile(data, *arguments, **options):
        return os.abort() if b"CRASH HERE" in data else decode(data, *arguments, **options)

    simplejpeg.decode_jpeg = fragile
"""
CANNOT_WORK = 'import os, sys\nif "components.fetch.worker" in sys.orig_argv: os._exit(3)\n'


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """Gives every fetching process the code that it is called with."""

    def install(code: str) -> None:
        (tmp_path / "broken").mkdir()
        (tmp_path / "broken" / "sitecustomize.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))

    return install


def fetch(folder, paths: list[str], server: Server):
    addresses = {f"o{index:03d}": f"{server.url}{path}" for index, path in enumerate(paths)}
    objects = write_objects(folder / "objects.parquet", addresses)
    settings = fetch_settings(image_base=server.url, image_size=32, requests_per_second=0, max_failed_fraction=1)
    return fetch_shard(SHARD, objects, str(folder / "out"), str(folder / "out"), settings, QUICK)


def test_pictures_that_crash_the_decoder(tmp_path, broken, capfd):
    """More of them in a row than processes may end without a reason: each is named, the others arrive."""
    broken(ABORTS)
    crashing = pool._DEATHS + 2
    with Server() as server:
        paths = [f"/crash/{index}" for index in range(crashing)] + [f"/ok/{index}" for index in range(20)]
        summary = fetch(tmp_path, paths, server)
    assert summary.reasons == {"crashed": crashing}
    log = read_log(tmp_path / "out")
    assert all(log[f"o{index:03d}"]["status"] == "crashed" for index in range(crashing))
    assert "the decoder crashed" in summary.example
    assert "ended with status -6" in capfd.readouterr().err


def test_crashes_without_end_end_the_step(tmp_path, broken, monkeypatch):
    broken(ABORTS)
    monkeypatch.setattr(pool, "_CRASHES", 3)
    with Server() as server, pytest.raises(TransientError, match="status -6"):
        fetch(tmp_path, [f"/crash/{index}" for index in range(20)], server)


def test_processes_that_cannot_start_end_the_step(tmp_path, broken):
    broken(CANNOT_WORK)
    with Server() as server, pytest.raises(TransientError, match="status 3"):
        fetch(tmp_path, [f"/ok/{index}" for index in range(20)], server)
    assert not server.asked
