"""Attempts with pauses between them."""

import random
import time
from collections.abc import Iterator, Sequence


def attempts(pauses: Sequence[float]) -> Iterator[bool]:
    """One attempt more than `pauses` (seconds, each taken with jitter); yields whether this is the last one."""
    for seconds in pauses:
        yield False
        time.sleep(seconds * random.uniform(0.5, 1.5))
    yield True


def doubling(first: float, longest: float, count: int) -> list[float]:
    """`count` pauses: `first` seconds, then twice as long each time, at most `longest`."""
    return [min(first * 2**number, longest) for number in range(count)]
