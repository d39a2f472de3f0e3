"""Memory and time are bounded, and nobody waits for ever."""

import asyncio

import pytest

from components.fetch.budget import FIRST_BYTES, Budget
from components.fetch.deadline import Deadline
from tests.helpers.virtual_time import run

MB = 1 << 20


async def _hold(budget, size, seconds, held, known=True):
    deadline = Deadline(100)
    async with deadline.running():
        async with budget.claim(deadline) as claim:
            await claim.expect(size if known else None)
            await claim.grow(size, 8 * MB)
            held.append(size)
            held.most = max(held.most, sum(held))
            await asyncio.sleep(seconds)
            held.remove(size)


class Held(list):
    most = 0


@pytest.mark.parametrize("known", [True, False])
def test_bodies_together_stay_within_the_limit(known):
    held = Held()

    async def scene():
        budget = Budget(10 * MB)
        await asyncio.gather(*(_hold(budget, 3 * MB, 1, held, known) for _ in range(20)))
        await budget.acquire(10 * MB)  # everything was given back
        assert asyncio.get_running_loop().time() == pytest.approx(7 if known else 20)

    run(scene())
    assert held.most <= (9 * MB if known else 3 * MB)


def test_one_that_is_larger_than_the_limit_goes_alone():
    held = Held()

    async def scene():
        budget = Budget(4 * MB)
        await asyncio.gather(*(_hold(budget, size, 1, held) for size in (MB, 8 * MB, MB)))

    run(scene())
    assert held.most == 8 * MB


def test_a_body_of_unknown_length_starts_small():
    held = Held()

    async def scene():
        budget = Budget(4 * MB)
        await asyncio.gather(*(_hold(budget, FIRST_BYTES, 1, held, known=False) for _ in range(32)))
        assert asyncio.get_running_loop().time() == 1

    run(scene())
    assert held.most == 4 * MB


def test_cancelled_waiters_do_not_keep_a_share():
    async def scene():
        budget, held = Budget(4 * MB), Held()
        tasks = [asyncio.ensure_future(_hold(budget, 4 * MB, 10, held)) for _ in range(4)]
        await asyncio.sleep(1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await budget.acquire(4 * MB)
        assert asyncio.get_running_loop().time() == 1

    run(scene())


def test_deadline_counts_over_several_requests_and_stands_still_between():
    async def scene():
        deadline = Deadline(5)
        async with deadline.running():
            await asyncio.sleep(2)
        await asyncio.sleep(100)
        assert deadline.left == pytest.approx(3)
        with pytest.raises(TimeoutError):
            async with deadline.running():
                await asyncio.sleep(4)
        assert asyncio.get_running_loop().time() == pytest.approx(105)

    run(scene())


def test_deadline_stands_still_while_it_is_paused():
    async def scene():
        deadline = Deadline(5)
        async with deadline.running():
            await asyncio.sleep(2)
            with deadline.paused():
                await asyncio.sleep(100)
            await asyncio.sleep(2)
        assert deadline.left == pytest.approx(1)

    run(scene())
