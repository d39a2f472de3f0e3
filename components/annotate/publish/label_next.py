"""What to label next: the objects whose label would teach the model most.

Greedily the one with the largest product of uncertainty (1 - how far the likeliest label is before the second) and
diversity (1 - the cosine to the nearest work that is labelled or was chosen before): one that is uncertain and unlike
what is labelled already says more than the tenth of its kind. Source of the second factor: Sener and Savarese, Active
learning for convolutional neural networks: a core-set approach (arXiv:1708.00489).
"""

import numpy as np
import pyarrow as pa


def choose(margins: np.ndarray, similarities: np.ndarray, vectors: np.ndarray, count: int) -> list[int]:
    """Up to `count` of n objects, the most instructive first.

    Args:
        margins: [n] probability of the likeliest label less that of the second.
        similarities: [n] cosine to the nearest labelled work.
        vectors: [n, width] of unit length.
    """
    uncertain, far = 1 - margins, 1 - similarities
    left, chosen = np.ones(len(margins), bool), []
    for _ in range(min(count, len(margins))):
        worth = np.where(left, uncertain * far, -np.inf)
        best = int(worth.argmax())
        chosen.append(best)
        left[best] = False
        far = np.minimum(far, 1 - vectors @ vectors[best])
    return chosen


def rows(done: pa.Table, count: int) -> list[int]:
    """The rows of the suggestions `done` to label next, of those that are candidates."""
    has_vector = [row for row, vector in enumerate(done["vector"].to_pylist()) if vector is not None]
    if not has_vector:
        return []
    some = done.take(has_vector)
    vectors = np.stack([np.frombuffer(vector, np.float16) for vector in some["vector"].to_pylist()]).astype(np.float32)
    margins, similarities = (np.array(some[name].to_pylist(), np.float32) for name in ("margin", "similarity"))
    return [has_vector[place] for place in choose(margins, similarities, vectors, count)]
