"""The pace of a host, in virtual time."""

import asyncio

import pytest

from components.fetch.failure import Failure
from components.fetch.hosts import Host
from components.fetch.settings import Limits
from tests.helpers.virtual_time import run

LIMITS = Limits(host_failures=3, host_patience=60, backoff=1, max_backoff=8, recovery=2, max_pause=900)


class Served:
    """A host of which `answer(now)` says what it does; remembers when requests began and how many ran at once."""

    def __init__(self, host: Host, answer=lambda now: "ok", seconds: float = 0.0) -> None:
        self.host, self.answer, self.seconds = host, answer, seconds
        self.times: list[float] = []
        self.outcomes: list[str] = []
        self.active = self.most = 0

    async def request(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with self.host.slot():
                self.times.append(loop.time())
                self.active += 1
                self.most = max(self.most, self.active)
                await asyncio.sleep(self.seconds)
                self.active -= 1
                outcome = self.answer(loop.time())
                if outcome == "ok":
                    self.host.answered()
                elif outcome == "silent":
                    self.host.silent()
                else:
                    self.host.refused(float(outcome))
        except Failure as failure:
            outcome = failure.reason
        self.outcomes.append(outcome)

    def many(self, count: int):
        async def together() -> None:
            await asyncio.gather(*(self.request() for _ in range(count)))

        return together()

    def within(self, start: float, seconds: float) -> int:
        return sum(start <= at < start + seconds for at in self.times)


def test_rate_is_kept_from_the_first_request_on():
    served = Served(Host("museum", 20, 32, LIMITS))
    run(served.many(200))
    assert served.times[-1] == pytest.approx(10, abs=0.3)
    assert max(served.within(start, 1) for start in range(10)) <= 23


def test_no_limit():
    served = Served(Host("museum", 0, 32, LIMITS))
    run(served.many(500))
    assert served.times[-1] == 0


def test_connections_grow_to_the_limit_and_not_beyond():
    served = Served(Host("museum", 0, 12, LIMITS), seconds=1)
    run(served.many(200))
    assert served.times.count(0.0) == 8 and served.most == 12


def test_retry_after_is_obeyed_by_every_request():
    asked = []

    def answer(now):
        asked.append(now)
        return "30" if len(asked) == 1 else "ok"

    served = Served(Host("museum", 10, 1, LIMITS), answer)
    run(served.many(20))
    assert served.within(0, 30) == 1
    assert served.times[1] == pytest.approx(30, abs=0.1)


def test_refusals_halve_the_rate_once_for_requests_that_were_under_way_together():
    host = Host("museum", 100, 32, LIMITS)
    served = Served(host, lambda now: "0" if now < 0.2 else "ok", seconds=0.05)
    run(served.many(150))
    assert served.outcomes.count("0") > 3
    # Half of 100 a second after the cut, not a thirtieth.
    assert 40 <= served.within(0.5, 1) <= 60


def test_pace_recovers_when_refusals_stop():
    served = Served(Host("museum", 64, 32, LIMITS), lambda now: "0" if now < 1 else "ok")
    run(served.many(4000))
    late = served.times[-1]
    assert served.within(1, 1) < 45, "half the pace at first"
    assert served.within(late - 2, 1) > 60, "all of it in the end"


def test_a_host_that_allows_less_is_asked_about_as_much_as_it_allows():
    """It refuses whoever asks more than ten times a second, and counts refused requests too."""
    served = Served(Host("museum", 80, 32, LIMITS))
    served.answer = lambda now: "1" if served.within(now - 1, 1) > 10 else "ok"
    run(served.many(600))
    refused = sum(outcome != "ok" for outcome in served.outcomes)
    assert refused < 150
    assert served.times[-1] < 200


def test_silent_host_is_probed_and_given_up():
    served = Served(Host("museum", 0, 32, LIMITS), lambda now: "silent", seconds=10)
    run(served.many(1000))
    assert served.outcomes.count("host_down") > 950, "the rest must not time out one by one"
    assert served.outcomes[-1] == "host_down"
    assert 60 <= served.times[-1] <= 120


def test_silent_host_that_comes_back_is_used_again():
    served = Served(Host("museum", 0, 32, LIMITS), lambda now: "silent" if now < 30 else "ok", seconds=1)
    run(served.many(300))
    assert "host_down" not in served.outcomes
    assert served.outcomes.count("silent") < 20, "only probes while it was away"


def test_single_silences_between_answers_mean_nothing():
    served = Served(Host("museum", 0, 4, LIMITS))
    served.answer = lambda now: "silent" if len(served.times) % 2 else "ok"
    run(served.many(100))
    assert "host_down" not in served.outcomes


def test_a_host_that_asks_for_a_day_is_given_up_for_this_run():
    served = Served(Host("museum", 0, 2, LIMITS), lambda now: "86400")
    run(served.many(50))
    assert served.outcomes.count("host_down") >= 48 and served.times[-1] < 1


def test_a_host_that_refuses_everything_is_given_up_after_an_hour():
    served = Served(Host("museum", 0, 2, LIMITS), lambda now: "600")
    run(served.many(50))
    assert served.outcomes[-1] == "host_down"
    assert 3600 <= served.times[-1] <= 4800, "not fifty times ten minutes"


def test_a_host_that_serves_now_and_then_is_not_given_up():
    served = Served(Host("museum", 0, 1, LIMITS))
    served.answer = lambda now: "600" if len(served.times) % 2 else "ok"
    run(served.many(30))
    assert "host_down" not in served.outcomes


def test_crawl_delay():
    host = Host("museum", 80, 32, LIMITS)
    assert host.crawl_delay(2.0) and not host.crawl_delay(1.0), "the slower one holds"
    served = Served(host)
    run(served.many(11))
    assert served.times[-1] == pytest.approx(20, abs=0.5)


def test_cancelled_waiters_give_their_place_back():
    host = Host("museum", 1, 1, LIMITS)
    served = Served(host, seconds=5)

    async def scene():
        tasks = [asyncio.ensure_future(served.request()) for _ in range(5)]
        await asyncio.sleep(0.1)
        for task in tasks[:4]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(scene())
    assert served.outcomes == ["ok"] and host.idle
