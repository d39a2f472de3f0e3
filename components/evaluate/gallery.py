"""The pictures in the report: which mistakes to show, and beside what."""

from dataclasses import dataclass

import numpy as np

from components.evaluate import occlusion
from components.evaluate.metrics import Analysis, top_confusions
from components.evaluate.testset import TestSet
from components.shared.classifier import Classifier
from components.shared.report import Picture

MISTAKES = 12
PAIRS = 8
MAPS = 6


@dataclass(frozen=True)
class Pair:
    """A confusion: the picture that was taken for another class, and one of that class that the model finds alike."""

    mistaken: Picture
    alike: Picture
    caption: str


@dataclass(frozen=True)
class Gallery:
    """Pictures with captions: confident and uncertain mistakes, confusions as pairs, occlusion maps."""

    worst: list[Picture]
    uncertain: list[Picture]
    pairs: list[Pair]
    maps: list[Picture]


def build(analysis: Analysis, test: TestSet, model: Classifier) -> Gallery:
    """Reads the few pictures that are shown and draws the occlusion maps."""
    wrong = np.flatnonzero(~analysis.correct)
    worst = wrong[np.argsort(-analysis.confidences[wrong], kind="stable")][:MISTAKES].tolist()
    uncertain = wrong[np.argsort(analysis.confidences[wrong], kind="stable")][:MISTAKES].tolist()
    pairs = confusion_pairs(analysis)
    explained = worst[: MAPS // 2] + typical(analysis, MAPS - min(len(worst), MAPS // 2))
    data = test.pictures([*worst, *uncertain, *explained, *(index for pair in pairs for index in pair)])

    def shown(indexes: list[int]) -> list[Picture]:
        return [_picture(analysis, test, index, data[index]) for index in indexes if index in data]

    return Gallery(
        worst=shown(worst),
        uncertain=shown([index for index in uncertain if index not in worst]),
        pairs=[_pair(analysis, test, data, *pair) for pair in pairs if all(index in data for index in pair)],
        maps=[picture for i in explained if i in data for picture in _map(analysis, test, model, i, data[i])],
    )


def confusion_pairs(analysis: Analysis, count: int = PAIRS) -> list[tuple[int, int]]:
    """For each of the most frequent confusions, the most confident mistake and its nearest correct neighbour.

    Neighbour: the correctly recognised picture of the class it was taken for, with the most similar probabilities.
    """
    found = []
    for true, predicted, _ in top_confusions(analysis, count):
        mistakes = np.flatnonzero((analysis.targets == true) & (analysis.predictions == predicted))
        mistake = int(mistakes[analysis.confidences[mistakes].argmax()])
        right = np.flatnonzero(analysis.correct & (analysis.targets == predicted))
        if len(right):
            distances = np.abs(analysis.probabilities[right] - analysis.probabilities[mistake]).sum(axis=1)
            found.append((mistake, int(right[distances.argmin()])))
    return found


def typical(analysis: Analysis, count: int) -> list[int]:
    """The most confident correct answer of each of the `count` largest classes."""
    found = []
    for index in np.argsort([-row.support for row in analysis.classes], kind="stable"):
        right = np.flatnonzero(analysis.correct & (analysis.targets == index))
        if len(right):
            found.append(int(right[analysis.confidences[right].argmax()]))
    return found[:count]


def _picture(analysis: Analysis, test: TestSet, index: int, data: bytes) -> Picture:
    true, predicted = analysis.labels[analysis.targets[index]], analysis.labels[analysis.predictions[index]]
    own = analysis.probabilities[index, analysis.targets[index]]
    right = analysis.correct[index]
    caption = true if right else f"{true}, taken for {predicted}"
    chances = f"{100 * analysis.confidences[index]:.0f} %"
    if not right:
        chances += f" {predicted}, {100 * own:.0f} % {true}"
    return Picture(
        data,
        caption,
        " · ".join(filter(None, [chances, described(test, index)])),
        link(test, index),
        "ok" if right else "fail",
    )


def _pair(analysis: Analysis, test: TestSet, data: dict[int, bytes], mistake: int, alike: int) -> Pair:
    true, predicted = int(analysis.targets[mistake]), int(analysis.predictions[mistake])
    times, support = int(analysis.confusion[true, predicted]), analysis.classes[true].support
    caption = f"{times} of {support} {analysis.labels[true]} taken for {analysis.labels[predicted]}"
    return Pair(
        _picture(analysis, test, mistake, data[mistake]), _picture(analysis, test, alike, data[alike]), caption
    )


def _map(analysis: Analysis, test: TestSet, model: Classifier, index: int, data: bytes) -> list[Picture]:
    """The square that the model saw, and the same with the parts that its answer hangs on in warm colours."""
    predicted = int(analysis.predictions[index])
    falls = occlusion.heat(model, data, predicted)
    pixels = occlusion.model_view(model, data)
    plain = _picture(analysis, test, index, occlusion.imaging.encode_jpeg(pixels, 90))
    note = f"falls by up to {100 * falls.max():.0f} points"
    drawn = Picture(occlusion.overlay(pixels, falls), f"what speaks for {analysis.labels[predicted]}", note, kind=plain.kind)
    return [plain, drawn]


def described(test: TestSet, index: int) -> str:
    """Title and artist, as far as they are known, or the object's id."""
    names = [test.text(index, "title"), test.text(index, "artist")]
    return ", ".join(filter(None, names)) or test.object_ids[index]


def link(test: TestSet, index: int) -> str:
    """The object's page in the museum; only web addresses, since a table can say anything."""
    address = test.text(index, "link")
    return address if address.startswith(("https://", "http://")) else ""
