"""Small JPEGs of those images that the report may show: the least sure of each label, and of those without one."""

import collections
from typing import Any

from components.shared.imaging import decode, encode_jpeg, resize

# Of each label, and of the uncertain; what the report shows of all shards is never more of one shard.
OF_A_LABEL, UNSURE = 12, 200
_SIDE, _LONGEST, _QUALITY = 128, 256, 75  # in pixels: of the shorter and the longer side


def unsure_first(labels: list[str | None], probabilities: list[float], ids: list[str]) -> list[int]:
    """The rows by how much they need a person: without a label first, then the least probable; of equals by id."""
    return sorted(range(len(ids)), key=lambda row: (labels[row] is not None, probabilities[row], ids[row]))


class Thumbnails:
    """Takes the images of a shard as they come, and keeps those that the report may show."""

    def __init__(self) -> None:
        self._kept: dict[str | None, list[tuple[dict[str, Any], bytes]]] = collections.defaultdict(list)

    def offer(self, row: dict[str, Any], image: bytes) -> None:
        """An image with its suggestion."""
        kept = self._kept[row["label"]]
        kept.append((row, image))
        if len(kept) >= 2 * _most(row["label"]):
            self._cut(row["label"])

    def make(self) -> None:
        """Gives the rows of those that were kept their `thumbnail`."""
        for label in self._kept:
            self._cut(label)
            for row, image in self._kept[label]:
                row["thumbnail"] = _thumbnail(image)

    def _cut(self, label: str | None) -> None:
        self._kept[label].sort(key=lambda kept: (kept[0]["probability"], kept[0]["object_id"]))
        del self._kept[label][_most(label) :]


def _most(label: str | None) -> int:
    return UNSURE if label is None else OF_A_LABEL


def _thumbnail(image: bytes) -> bytes:
    pixels = decode(image, _SIDE)
    height, width = pixels.shape[:2]
    scale = min(1.0, _SIDE / min(height, width), _LONGEST / max(height, width))
    return encode_jpeg(resize(pixels, max(1, round(height * scale)), max(1, round(width * scale))), _QUALITY)
