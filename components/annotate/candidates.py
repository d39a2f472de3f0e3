"""Those objects of a shard whose label may teach the model most: without one, and the least decided."""

from typing import Any

import numpy as np

from components.artifacts.embeddings import unit

MOST = 500  # of a shard; label_next.csv is chosen from those of all shards


class Candidates:
    """Takes the suggestions of a shard as they come; those that are kept get their `vector`, float16 of unit length."""

    def __init__(self) -> None:
        self._kept: list[tuple[dict[str, Any], np.ndarray]] = []

    def offer(self, row: dict[str, Any], features: np.ndarray) -> None:
        """A suggestion with its image's features [width]."""
        if row["known_label"] or row["unlike"]:
            return
        self._kept.append((row, features))
        if len(self._kept) >= 2 * MOST:
            self._cut()

    def keep(self) -> None:
        """Gives the rows of those that are kept their vector."""
        self._cut()
        for row, features in self._kept:
            row["vector"] = unit(features).astype(np.float16).tobytes()

    def _cut(self) -> None:
        self._kept.sort(key=lambda kept: (kept[0]["margin"], kept[0]["object_id"]))
        del self._kept[MOST:]
