"""What every training has to be better than, measured on the validation split before anything is trained by steps."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from components.shared.intervals import wilson
from components.train.worker import batches
from components.train.worker.input_pipeline import Examples, Order
from components.train.worker.probe import Probe, nearest
from components.train.worker.session import Session

PROBE = "regression on frozen features"
_THUMBNAIL = 8  # pixels


@dataclass(frozen=True)
class Floor:
    """What was tried: `right` of `examples` validation images."""

    name: str
    right: int
    examples: int

    @classmethod
    def of(cls, name: str, hits: np.ndarray) -> "Floor":
        """`hits` [n] bool: which images are right."""
        return cls(name, int(hits.sum()), len(hits))

    def row(self, taken: bool = False) -> dict[str, Any]:
        """For the result, the model card and the pages; `taken`: it is what goes on."""
        return {
            "name": self.name, "accuracy": self.right / self.examples, "examples": self.examples, "taken": taken,
        }  # fmt: skip


def measure(session: Session, probe: Probe | None) -> list[Floor]:
    """The most frequent class, the nearest training image, and the regression on frozen features if there is one."""
    labels = session.validation.labels
    most = np.bincount(session.train.labels).argmax()
    found = [Floor.of("always the most frequent class", labels == most)]
    if probe is None:
        return [*found, Floor.of("nearest training image by colours and layout", _nearest_by_pixels(session))]
    answers = probe.validation.argmax(axis=1)
    return [*found, Floor.of("nearest training image by features", probe.nearest), Floor.of(PROBE, answers == labels)]


def markdown(floors: list[Floor]) -> str:
    """A table for TensorBoard."""
    lines = ["| to be better than | validation accuracy | 95 % interval |", "|---|---|---|"]
    for floor in floors:
        low, high = wilson(floor.right, floor.examples)
        lines.append(f"| {floor.name} | {floor.right / floor.examples:.3f} | {low:.3f} to {high:.3f} |")
    return "\n".join(lines)


def _nearest_by_pixels(session: Session) -> np.ndarray:
    """[n] bool, for the validation split: whether the training image whose thumbnail is most alike has the label."""
    train, validation = (_thumbnails(examples, session) for examples in (session.train, session.validation))
    mean = train.mean(axis=0)
    return nearest(train - mean, session.train.labels, validation - mean) == session.validation.labels


def _thumbnails(examples: Examples, session: Session) -> np.ndarray:
    """[n, 192] float32: the pixels of 8 x 8 thumbnails."""
    order = Order(examples.labels, session.settings.evaluation_batch)
    geometry = batches.Geometry(session.size, session.classes)
    parts = []
    for images, *_ in batches.images(examples, order, batches.Share(0, 1, 1), geometry).take(order.steps):
        small = tf.image.resize(images, [_THUMBNAIL, _THUMBNAIL], method="area")
        parts.append(tf.reshape(small, [len(images), -1]).numpy())
    return np.concatenate(parts)[: len(examples)]
