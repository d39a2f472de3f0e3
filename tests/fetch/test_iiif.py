"""Image services that do not serve the size that was asked for: what their info.json says is asked for instead."""

from dataclasses import replace
from pathlib import Path

import pytest

from components.fetch.failure import Failure
from components.fetch.fetcher import FetchSummary, fetch_shard
from components.fetch.iiif import Services, parse
from tests.fakes.iiif_server import ImageService, serve_images
from tests.helpers.fetch_settings import fetch_settings
from tests.helpers.fetched_shards import QUICK, SHARD, read_log, write_objects

SIZE = 100
LISTED = [{"width": w, "height": h} for w, h in ((75, 56), (600, 450), (150, 112))]
VERSION_3 = {"profile": "level1", "type": "ImageService3"}
AT_MOST_2 = {"profile": ["http://iiif.io/api/image/2/level2.json", {"maxWidth": 150}]}
AT_MOST_3 = {"profile": "level2", "maxWidth": 150}
LEVEL_1 = {"@context": "http://iiif.io/api/image/2/context.json", "profile": ["http://iiif.io/api/image/2/level1.json"]}


def fetch(folder: Path, service: ImageService, asked: str, number: int = 3) -> FetchSummary:
    """Fetches `number` images of `service`, each at first as `asked`."""
    folder.mkdir(exist_ok=True)
    with serve_images(service) as url:
        addresses = {f"o{n}": f"{url}/iiif/o{n}/full/{asked}/0/default.jpg" for n in range(number)}
        objects = write_objects(folder / "objects.parquet", addresses, others=0)
        settings = fetch_settings(image_base=url, image_size=SIZE, requests_per_second=0, max_failed_fraction=1.0)
        limits = replace(QUICK, host_connections=1, read_timeout=30, deadline=60)
        return fetch_shard(SHARD, objects, str(folder / "out"), str(folder / "out"), settings, limits)


@pytest.mark.parametrize(
    "service, asked, first, further",
    [
        (ImageService(), "!200,200", ["!200,200"], "!200,200"),
        (ImageService(("!w,h",), info=LEVEL_1), "200,", ["200,", "info", "!134,100"], "!200,200"),
        (ImageService(("w,",), info=LEVEL_1), "!200,200", ["!200,200", "info", "134,"], "200,"),
        (ImageService(("w,",), info=VERSION_3), "!200,200", ["!200,200", "info", "134,"], "200,"),
        (ImageService(widest=150, info=AT_MOST_3), "!200,200", ["!200,200", "info", "!134,100"], "!150,150"),
        (ImageService(widest=150, info=AT_MOST_2), "!200,200", ["!200,200", "info", "!134,100"], "!150,150"),
        (
            ImageService((), 0, [(75, 56), (150, 112), (600, 450)], {"profile": "level0", "sizes": LISTED}, 501),
            "!200,200", ["!200,200", "info", "150,112"], None,
        ),
    ],
    ids=["as asked", "only !w,h", "only w,", "version 3", "maxWidth", "maxWidth of version 2", "a list"],
)  # fmt: skip
def test_what_a_service_says_it_serves_is_asked_for(tmp_path, service, asked, first, further):
    service.asked.clear()
    summary = fetch(tmp_path, service, asked)
    assert not summary.reasons
    sizes = service.sizes()
    # All three are asked for before the first answer comes.
    expected = first * 3 if further is None else [asked] * (0 if first == [asked] else 2) + first + [further] * 2
    assert sorted(sizes) == sorted(expected), "one image pays for all"
    log = read_log(tmp_path / "out").values()
    assert all(SIZE <= min(row["width"], row["height"]) and max(row["width"], row["height"]) <= 2 * SIZE for row in log)


def test_a_service_that_serves_no_size_says_so_and_one_without_a_description_what_it_said(tmp_path):
    assert fetch(tmp_path / "a", ImageService((), info=LEVEL_1), "200,", 1).reasons == {"size_not_allowed": 1}
    assert fetch(tmp_path / "b", ImageService(()), "200,", 1).reasons == {"http_400": 1}


@pytest.mark.parametrize(
    "address, size",
    [
        ("https://h/iiif/2/a%2Fb/full/!512,512/0/default.jpg", "!512,512"),
        ("https://h/iiif/x/0,0,10,10/843,/!90/native.png?v=1", "843,"),
        ("https://h/iiif/x/full/max/0/default.jpg", None),
        ("https://h/full/of/pictures/1.jpg", None),
        ("https://h/x.jpg", None),
    ],
)
def test_addresses_of_image_requests(address, size):
    assert (parse(address) and parse(address).size) == size
    if size:
        assert parse(address).of(size) == address


def test_descriptions_that_are_none_help_nobody():
    services, address = Services(100), "https://h/x/full/9,/0/default.jpg"
    assert services.may_help(address, Failure("http_403", "", http_status=403))
    assert not services.may_help("https://h/x.jpg", Failure("http_403", "", http_status=403))
    for info in (b"<html>", b"[]", b"{}", b'{"width": "wide"}'):
        with pytest.raises(ValueError):
            list(services.others(address, info))
