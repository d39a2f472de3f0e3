"""robots.txt and the headers against machine learning."""

from dataclasses import replace

import pytest
from multidict import CIMultiDict

from components.fetch.failure import Failure
from components.fetch.robots import check_headers
from tests.fakes.image_server import Server
from tests.helpers.downloads import get, polite
from tests.helpers.fetched_shards import QUICK

RULES = """
User-agent: *
Disallow: /ok/private
Disallow: /*.gif$
Allow: /ok/private/but-this

User-agent: otherbot
Disallow: /
"""


def reasons(results) -> list[str]:
    return [getattr(result, "reason", "ok") for result in results]


def test_rules_with_wildcards_and_the_longest_match():
    with Server(robots=RULES) as server:
        paths = ["/ok/1.jpg", "/ok/private1", "/ok/2.gif", "/ok/2.gif?x=1", "/ok/3.gift"]
        results = get(polite(server), [server.url + path for path in paths])
        assert reasons(results) == ["ok", "robots", "robots", "ok", "ok"]
        assert server.asked["/robots.txt"] == 1, "read once"
        assert "/ok/private1" not in server.asked


def test_rules_for_us_by_name():
    with Server(robots="User-agent: museum-classifier\nDisallow: /\n\nUser-agent: *\nDisallow:\n") as server:
        assert reasons(get(polite(server), [f"{server.url}/ok/1"])) == ["robots"]


def test_off_by_parameter():
    with Server(robots="User-agent: *\nDisallow: /\n") as server:
        assert reasons(get(polite(server, respect_robots=False), [f"{server.url}/ok/1"])) == ["ok"]
        assert reasons(get(polite(server, respect_robots=False), [f"{server.url}/header/X-Robots-Tag/noai"])) == ["ok"]
        assert "/robots.txt" not in server.asked


def test_rules_of_the_host_that_a_redirect_leads_to():
    with Server() as server, Server(robots="User-agent: *\nDisallow: /ok\n") as other:
        settings = polite(server, allow_private_addresses=True)
        assert reasons(get(settings, [f"{server.url}/away?to={other.url}/ok/1"])) == ["robots"]
        assert list(other.asked) == ["/robots.txt"]


@pytest.mark.parametrize("status, expected", [(404, "ok"), (403, "ok"), (410, "ok"), (500, "robots_unavailable")])
def test_status_of_robots_txt(status, expected):
    """RFC 9309: what is not there allows everything, a server in trouble allows nothing."""
    with Server(robots=status) as server:
        results = get(
            polite(server), [f"{server.url}/ok/{index}" for index in range(3)], replace(QUICK, host_patience=0)
        )
        assert reasons(results) == [expected] * 3
        assert server.asked["/robots.txt"] == (1 if expected == "ok" else QUICK.attempts)


def test_crawl_delay_sets_the_pace():
    with Server(robots="User-agent: *\nCrawl-delay: 0.1\n") as server:
        get(polite(server), [f"{server.url}/ok/{index}" for index in range(6)])
        pictures = server.times[1:]
        assert pictures[-1] - pictures[0] > 0.35, "six requests, a tenth of a second apart"


def test_a_crawl_delay_is_shared_by_all_and_said(capfd):
    """Two shards side by side: each takes half of the pace, and the user hears what it comes to."""
    with Server(robots="User-agent: *\nCrawl-delay: 0.2\n") as server:
        get(polite(server, side_by_side=2), [f"{server.url}/ok/{index}" for index in range(4)])
        pictures = server.times[1:]
        assert pictures[-1] - pictures[0] > 0.9, "four requests, 0.4 s apart"
    warning = capfd.readouterr().err
    assert "asks for 0.2 s between requests" in warning and "1,000 pictures from there take 0.1 hours" in warning


def test_a_crawl_delay_beyond_reason_is_a_refusal():
    with Server(robots="User-agent: *\nCrawl-delay: 86400\n") as server:
        (failure,) = get(polite(server), [f"{server.url}/ok/1"])
        assert failure.reason == "robots" and "86400 s between requests" in str(failure)
        assert list(server.asked) == ["/robots.txt"]


@pytest.mark.parametrize(
    "headers, allowed",
    [
        ([], True),
        ([("X-Robots-Tag", "noindex, nofollow")], True),
        ([("X-Robots-Tag", "noindex, NoAI")], False),
        ([("X-Robots-Tag", "noimageai")], False),
        ([("X-Robots-Tag", "noindex"), ("X-Robots-Tag", "noai")], False),
        ([("X-Robots-Tag", "otherbot: noai")], True),
        ([("X-Robots-Tag", "museum-classifier: noai")], False),
        ([("X-Robots-Tag", "*: noai")], False),
        ([("X-Robots-Tag", "unavailable_after: 25 Jun 2030 15:00:00 PST")], True),
        ([("X-Robots-Tag", "noai, unavailable_after: 25 Jun 2030 15:00:00 PST")], False),
        ([("X-Robots-Tag", "max-image-preview: large, noai")], False),
        ([("TDM-Reservation", "1")], False),
        ([("TDM-Reservation", "0")], True),
    ],
)
def test_headers(headers, allowed):
    if allowed:
        return check_headers(CIMultiDict(headers))
    with pytest.raises(Failure) as caught:
        check_headers(CIMultiDict(headers))
    assert caught.value.reason == "noai"
