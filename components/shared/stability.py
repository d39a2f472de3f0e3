"""How far a distribution has moved."""

import numpy as np
from numpy.typing import ArrayLike


def population_stability_index(before: ArrayLike, after: ArrayLike) -> float:
    """Of the counts `before` and `after`, both [k]: below 0.1 they differ little, from 0.25 on a lot.

    Cells that neither has are left out; one that is empty in one of them counts as half an example there, so that it is
    no infinity. Source: Siddiqi, Credit Risk Scorecards (2006).
    """
    then, now = np.asarray(before, float), np.asarray(after, float)
    kept = then + now > 0
    then, now = np.maximum(then[kept], 0.5), np.maximum(now[kept], 0.5)
    expected, found = then / then.sum(), now / now.sum()
    return float(((found - expected) * np.log(found / expected)).sum())
