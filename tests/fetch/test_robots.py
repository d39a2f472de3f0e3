"""robots.txt and the headers against machine learning."""

from dataclasses import replace

import pytest
from multidict import CIMultiDict

from components.fetch.failure import Failure
from components.fetch.robots import Rules, check_headers
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


TDMREP = '[{"location": "/ok/mine*", "tdm-reservation": 1}, {"location": "/ok/mine-free", "tdm-reservation": 0}]'


@pytest.mark.parametrize("robots", [404, "User-agent: *\nDisallow:\n"])
def test_a_reservation_beside_robots_txt_is_heard(robots):
    with Server(robots=robots, tdmrep=TDMREP) as server:
        paths = ["/ok/1.jpg", "/ok/mine1", "/ok/mine2", "/ok/mine-free3"]
        results = get(polite(server), [server.url + path for path in paths])
        assert reasons(results) == ["ok", "noai", "noai", "ok"]
        assert server.asked["/.well-known/tdmrep.json"] == 1 and "/ok/mine1" not in server.asked
        assert reasons(get(polite(server, respect_robots=False), [f"{server.url}/ok/mine1"])) == ["ok"]


@pytest.mark.parametrize("tdmrep", [404, 500, "<html>", "{}", "[1]", '[{"location": "/ok", "tdm-reservation": 0}]'])
def test_where_no_reservation_can_be_read_there_is_none(tdmrep):
    with Server(tdmrep=tdmrep) as server:
        assert reasons(get(polite(server), [f"{server.url}/ok/1"])) == ["ok"]


def test_a_host_that_turns_programs_away_is_left_alone():
    with Server() as server:
        settings, limits = polite(server), replace(QUICK, turned_away=3)
        results = get(settings, [f"{server.url}/page/403/challenge"] * 6, limits, at_once=False)
        assert reasons(results) == ["challenged"] * 6 and server.asked["/page/403/challenge"] == 3


FORBIDDEN = "User-agent: *\nDisallow: /\n"


@pytest.mark.parametrize(
    "data",
    [
        FORBIDDEN.encode("utf-8-sig"),
        b"\xef\xbb\xbf\xef\xbb\xbf" + FORBIDDEN.encode(),
        FORBIDDEN.encode("utf-16"),
        FORBIDDEN.encode("utf-16-be"),
        FORBIDDEN.encode("utf-16-le"),
        FORBIDDEN.encode("utf-32"),
        "# Musée d’Orsay\n".encode("cp1252") + FORBIDDEN.encode(),
        FORBIDDEN.replace("\n", "\r").encode(),
        b"Disallow: /",
        b"# no agent\nDisallow: /\n\nUser-agent: otherbot\nAllow: /",
        b"User-agent: museum-classifier/1\nDisallow: /\n\nUser-agent: *\nAllow: /",
        b"User-agent: Museum-Classifier/2.0\nDisallow: /",
        b"User-agent: museum-classifier*\nDisallow: /",
        b"User-Agent: Mozilla/5.0 (compatible; museum-classifier/1; +https://a.org)\nDisallow: /",
        b"User-agent: otherbot, museum-classifier\nDisallow: /",
        b"USER-AGENT : *\nDISALLOW : /",
    ],
)
def test_whatever_forbids_everything_is_heard(data):
    rules = Rules(data)
    assert not rules.crawling.can_fetch("https://a.org/x.jpg", "museum-classifier")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xef\xbb\xbf",
        b"# nothing\n\n",
        b"Sitemap: https://a.org/sitemap.xml",
        b"User-agent: museum-classifier-pro\nDisallow: /",
        b"User-agent: old-museum-classifier\nDisallow: /",
        b"User-agent: *\nDisallow:",
    ],
)
def test_what_forbids_nothing(data):
    rules = Rules(data)
    assert rules.crawling.can_fetch("https://a.org/x.jpg", "museum-classifier")
    assert rules.training.can_fetch("https://a.org/x.jpg", "museum-classifier")


@pytest.mark.parametrize(
    "data",
    [
        b"<!DOCTYPE html><html><body>Not here</body></html>",
        b"\x1f\x8b\x08\x00\x00\x00",
        bytes(range(256)),
        b"Please do not crawl this site.",
        b'{"error": "no such page"}',
    ],
)
def test_where_it_cannot_be_understood_nothing_is_fetched(data):
    with pytest.raises(ValueError):
        Rules(data)
    with Server(robots=data.decode("latin-1")) as server:
        (failure,) = get(polite(server), [f"{server.url}/ok/1"])
        assert failure.reason == "robots_unavailable" and "cannot be understood" in str(failure)
        assert list(server.asked) == ["/robots.txt"]


@pytest.mark.parametrize(
    "rules, refused",
    [
        ("User-agent: *\nContent-Signal: ai-train=no\nAllow: /", ["/x", "/free/x"]),
        ("User-agent: *\nContent-Signal: search=yes, ai-train=no\nAllow: /", ["/x", "/free/x"]),
        ("User-agent: *\nContent-signal: search=yes,ai-input=no , ai-train = no", ["/x", "/free/x"]),
        ("User-agent: *\nContent-Signal: ai-train=yes, ai-input=no", []),
        ("User-agent: *\nContent-Signal: search=no", []),
        ("Content-Signal: ai-train=no", ["/x", "/free/x"]),
        ("User-agent: *\nContent-Usage: train-ai=n", ["/x", "/free/x"]),
        ("User-agent: *\nContent-Usage: ai=n\nContent-Usage: /free/ ai=y", ["/x"]),
        ("User-agent: *\nDisallowAITraining: /x", ["/x"]),
        ("User-agent: otherbot\nAllow: /\nUser-agent: *\nContent-Signal: ai-train=no", ["/x", "/free/x"]),
        ("User-agent: otherbot\nContent-Signal: ai-train=no\n\nUser-agent: *\nAllow: /", []),
        ("User-agent: *\nContent-Signal: ai-train=no\n\nUser-agent: museum-classifier\nAllow: /", []),
        ("User-agent: museum-classifier\nContent-Signal: ai-train=no\n\nUser-agent: *\nAllow: /", ["/x", "/free/x"]),
    ],
)
def test_signals_about_training(rules, refused):
    found = Rules(rules.encode())
    for path in ("/x", "/free/x"):
        assert found.crawling.can_fetch(f"https://a.org{path}", "museum-classifier")
        assert found.training.can_fetch(f"https://a.org{path}", "museum-classifier") == (path not in refused)


def test_a_host_that_does_not_want_training_is_left_alone():
    with Server(robots="\ufeffUser-agent: *\nContent-Signal: search=yes, ai-train=no\nAllow: /\n") as server:
        (failure,) = get(polite(server), [f"{server.url}/ok/1"])
        assert failure.reason == "noai" and list(server.asked) == ["/robots.txt"]
        assert reasons(get(polite(server, respect_robots=False), [f"{server.url}/ok/1"])) == ["ok"]


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


@pytest.mark.parametrize(
    "status, expected", [(404, "ok"), (403, "ok"), (410, "ok"), (204, "ok"), (500, "robots_unavailable")]
)
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
        ([("X-Robots-Tag", "museum-classifier/1: noai")], False),
        ([("X-Robots-Tag", "Museum-Classifier: noindex, noimageai")], False),
        ([("X-Robots-Tag", "otherbot: noai, museum-classifier: noindex, noimageai")], False),
        ([("X-Robots-Tag", "otherbot: noindex, noai")], True),
        ([("X-Robots-Tag", "noindex, noml")], False),
        ([("X-Robots-Tag", "unavailable_after: 25 Jun, 2030 15:00:00 PST, noai")], False),
        ([("Content-Usage", "train-ai=n")], False),
        ([("Content-Usage", "train-ai=y, search=n")], True),
        ([("Content-Signal", "search=yes, ai-train=no")], False),
        ([("TDM-Reservation", "1; policy=x")], False),
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
