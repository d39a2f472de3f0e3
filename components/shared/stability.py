"""How far a distribution has moved."""

import numpy as np


def population_stability_index(before: np.ndarray, after: np.ndarray) -> float:
    """Of the counts `before` and `after`, both [k]: below 0.1 they differ little, from 0.25 on a lot.

    Cells that neither has are left out; one that is empty in one of them counts as half an example there, so that it is
    no infinity. Source: Siddiqi, Credit Risk Scorecards (2006).
    """
    before, after = np.asarray(before, float), np.asarray(after, float)
    kept = before + after > 0
    before, after = np.maximum(before[kept], 0.5), np.maximum(after[kept], 0.5)
    expected, found = before / before.sum(), after / after.sum()
    return float(((found - expected) * np.log(found / expected)).sum())
