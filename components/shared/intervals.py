"""How sure a share of right answers is."""

import math


def wilson(hits: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share (E. B. Wilson, 1927), 95 % by default; (0, 1) without trials."""
    if not trials:
        return 0.0, 1.0
    share, square = hits / trials, z * z / trials
    centre = share + square / 2
    spread = z * math.sqrt(share * (1 - share) / trials + square / (4 * trials))
    return max(0.0, float((centre - spread) / (1 + square))), min(1.0, float((centre + spread) / (1 + square)))
