"""Examples whose label their image contradicts, found without a neural network.

A classifier of colours and outlines, cross-validated, is asked for each example what it would be without its own label;
where another class fits much better, a human should look. In the spirit of confident learning (Northcutt et al. 2021),
with kernel ridge regression as the classifier because its leave-one-out predictions have a closed form (Rifkin and
Lippert 2007, "Notes on regularized least squares") and its Nystroem approximation takes seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import simplejpeg
from PIL import Image

from components.assemble.stored import read_pictures
from components.shared import hashing
from components.shared.progress import Progress

# Above so many examples a fixed sample is searched.
MOST_EXAMPLES = 20_000
_LANDMARKS = 800
_RIDGE = 1.0
_SIDE = 64
_ORIENTATIONS = 9
_CHUNK = 256
# A class must fit better than the label by this much (the scores run from -1 to 1) to raise a suspicion.
_MARGIN = 0.3
_FEW_SUSPECTS = 6


@dataclass(frozen=True)
class Suspect:
    """An example (its row) whose image looks like another class (its index), and by how much more: 0 to 2."""

    row: int
    looks_like: int
    margin: float


def find_suspects(examples: pa.Table, rows: np.ndarray, classes: int, limit: int = 48) -> list[Suspect]:
    """The worst `limit` suspects among `rows` of `examples`, and of few examples no more than a tenth; worst first."""
    limit = min(limit, max(len(rows) // 10, _FEW_SUSPECTS))
    labels = examples["label_index"].to_numpy()[rows]
    if len(np.unique(labels)) < 2:
        return []
    if len(rows) > MOST_EXAMPLES:
        # By hash and not at random, so that the same examples are searched whatever the order of arrival.
        digests = np.array(examples["encoded_sha256"].take(pa.array(rows)).to_pylist())
        chosen = np.sort(np.argsort(digests)[:MOST_EXAMPLES])
        rows, labels = rows[chosen], labels[chosen]
    scores = leave_one_out_scores(_features(examples, rows), labels, classes)
    own = scores[np.arange(len(rows)), labels]
    scores[np.arange(len(rows)), labels] = -np.inf
    margins = scores.max(axis=1) - own
    worst = np.argsort(-margins, kind="stable")[:limit]
    return [Suspect(int(rows[k]), int(scores[k].argmax()), float(margins[k])) for k in worst if margins[k] > _MARGIN]


def leave_one_out_scores(features: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Scores [n, classes], about -1 to 1, that each example gets from the others; features float32 [n, d]."""
    mapped = _kernel_map(features)
    targets = np.where(labels[:, None] == np.arange(classes), 1.0, -1.0)
    inverse = np.linalg.inv(mapped.T @ mapped + _RIDGE * np.eye(mapped.shape[1]))
    fitted = mapped @ (inverse @ (mapped.T @ targets))
    leverage = np.einsum("ij,ij->i", mapped @ inverse, mapped)
    return targets - (targets - fitted) / np.maximum(1 - leverage, 1e-6)[:, None]


def _kernel_map(features: np.ndarray) -> np.ndarray:
    """Nystroem features of the RBF kernel [n, landmarks + 1]."""
    scaled = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-3)
    step = max(len(scaled) // _LANDMARKS, 1)
    landmarks = scaled[::step][:_LANDMARKS]
    values, vectors = np.linalg.eigh(_kernel(landmarks, landmarks))
    mapped = _kernel(scaled, landmarks) @ (vectors / np.sqrt(np.maximum(values, 1e-6)))
    return np.hstack([mapped, np.ones((len(mapped), 1))])


def _kernel(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
    return np.exp(-np.maximum(squares, 0) / one.shape[1]).astype(np.float64)


def _features(examples: pa.Table, rows: np.ndarray) -> np.ndarray:
    """Thumbnail and outlines of each row: float32 [n, 384 + 864]."""
    progress = Progress(len(rows), "pictures searched for mislabels")
    parts = []
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        thumbnails = examples["thumbnail"].take(pa.array(chunk)).to_pylist()
        colours = np.frombuffer(b"".join(thumbnails), np.uint8).reshape(-1, hashing.THUMBNAIL_BYTES) / np.float32(255)
        parts.append(np.hstack([colours, _outlines(read_pictures(examples, chunk.tolist()))]))
        progress.update(len(chunk))
    return np.concatenate(parts)


def _outlines(pictures: Sequence[bytes]) -> np.ndarray:
    """Histograms of oriented gradients (Dalal and Triggs 2005) in 8 x 8, 4 x 4 and coarser 4 x 4 cells: [n, 864]."""
    greys = [Image.fromarray(simplejpeg.decode_jpeg(jpeg, colorspace="GRAY")[:, :, 0]) for jpeg in pictures]
    fine, coarse = (
        np.stack([np.asarray(grey.resize((side, side), Image.Resampling.BOX), np.float32) for grey in greys])
        for side in (_SIDE, _SIDE // 2)
    )
    return np.hstack([_gradients(fine, 8), _gradients(fine, 4), _gradients(coarse, 4)])


def _gradients(pixels: np.ndarray, cells: int) -> np.ndarray:
    """Histograms [n, cells * cells * orientations] of the gradients of [n, side, side], square root of shares."""
    down, right = np.gradient(pixels, axis=(1, 2))
    strength = np.hypot(down, right)
    orientation = np.minimum(np.mod(np.arctan2(down, right), np.pi) / np.pi * _ORIENTATIONS, _ORIENTATIONS - 1)
    n, side = len(pixels), pixels.shape[1] // cells
    histograms = np.stack(
        [
            np.where(orientation.astype(int) == k, strength, 0).reshape(n, cells, side, cells, side).sum(axis=(2, 4))
            for k in range(_ORIENTATIONS)
        ],
        axis=-1,
    ).reshape(n, -1)
    return np.sqrt(histograms / (histograms.sum(axis=1, keepdims=True) + 1e-6))
