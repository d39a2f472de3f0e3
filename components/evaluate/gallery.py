"""The images in the report: which mistakes to show, and beside what."""

from dataclasses import dataclass

import numpy as np

from components.artifacts.classifier import Classifier
from components.artifacts.objects import credit_line, web_link
from components.evaluate.metrics import Analysis, top_confusions
from components.evaluate.testset import TestSet
from components.shared import imaging, occlusion
from components.shared.report import Picture, ReviewItem

MISTAKES = 12
PAIRS = 8
MAPS = 6


@dataclass(frozen=True)
class Pair:
    """Two images that explain each other: a mistake and its look-alike, or what the model saw and what counted."""

    left: Picture
    right: Picture
    caption: str


@dataclass(frozen=True)
class Gallery:
    """Images with captions: confident and uncertain mistakes, confusions as pairs, occlusion maps."""

    worst: list[ReviewItem]
    uncertain: list[Picture]
    pairs: list[Pair]
    maps: list[Pair]


def build(analysis: Analysis, test: TestSet, model: Classifier) -> Gallery:
    """Reads the few images that are shown and draws the occlusion maps."""
    wrong = np.flatnonzero(~analysis.correct)
    worst = wrong[np.argsort(-analysis.confidences[wrong], kind="stable")][:MISTAKES].tolist()
    uncertain = wrong[np.argsort(analysis.confidences[wrong], kind="stable")][:MISTAKES].tolist()
    pairs = confusion_pairs(analysis)
    explained = worst[: MAPS // 2] + typical(analysis, MAPS - min(len(worst), MAPS // 2))
    data = test.pictures([*worst, *uncertain, *explained, *(index for pair in pairs for index in pair)])

    def shown(indexes: list[int]) -> list[Picture]:
        return [_picture(analysis, test, index, data[index]) for index in indexes]

    return Gallery(
        worst=[
            ReviewItem(
                picture,
                test.object_ids[index],
                analysis.labels[analysis.targets[index]],
                analysis.labels[analysis.predictions[index]],
            )
            for index, picture in zip(worst, shown(worst), strict=True)
        ],
        uncertain=shown([index for index in uncertain if index not in worst]),
        pairs=[_pair(analysis, test, data, *pair) for pair in pairs],
        maps=[_map(analysis, test, model, index, data[index]) for index in explained],
    )


def confusion_pairs(analysis: Analysis, count: int = PAIRS) -> list[tuple[int, int]]:
    """For each of the most frequent confusions, the most confident mistake and its nearest correct neighbour.

    Neighbour: the correctly recognised image of the class it was taken for, with the most similar probabilities.
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


def _picture(analysis: Analysis, test: TestSet, index: int, data: bytes, titled: bool = False) -> Picture:
    """An image with what it is and what it was taken for; `titled`: only its title, where a heading says the rest."""
    true, predicted = analysis.labels[analysis.targets[index]], analysis.labels[analysis.predictions[index]]
    right = analysis.correct[index]
    chances = f"{percent(analysis.confidences[index])} {predicted}"
    if not right:
        chances += f", {percent(analysis.probabilities[index, analysis.targets[index]])} {true}"
    name = described(test, index)
    return Picture(
        data,
        name if titled else true if right else f"{true}, taken for {predicted}",
        chances if titled else f"{chances} · {name}",
        link(test, index),
        "ok" if right else "fail",
        credit(test, index),
    )


def _pair(analysis: Analysis, test: TestSet, data: dict[int, bytes], mistake: int, alike: int) -> Pair:
    true, predicted = int(analysis.targets[mistake]), int(analysis.predictions[mistake])
    times, support = int(analysis.confusion[true, predicted]), analysis.classes[true].support
    left, right = (_picture(analysis, test, index, data[index], titled=True) for index in (mistake, alike))
    return Pair(left, right, f"{times} of {support} {analysis.labels[true]} taken for {analysis.labels[predicted]}")


def _map(analysis: Analysis, test: TestSet, model: Classifier, index: int, data: bytes) -> Pair:
    predicted = analysis.labels[analysis.predictions[index]]
    pixels = model.view(data)
    answers = model.predict_pixels(occlusion.covered(pixels))
    found = occlusion.explain(answers, model.labels.index(predicted), len(pixels))
    right = analysis.correct[index]
    note = f"covered there, {percent(found.whole)} become {percent(found.lowest)}"
    drawn = occlusion.overlay(pixels, found.heat)
    return Pair(
        _picture(analysis, test, index, imaging.encode_jpeg(pixels, 90), titled=True),
        Picture(drawn, f"what speaks for {predicted}", note, kind="ok" if right else "fail"),
        predicted if right else f"{analysis.labels[analysis.targets[index]]}, taken for {predicted}",
    )


def described(test: TestSet, index: int) -> str:
    """Title and artist, as far as they are known, or the object's id."""
    names = [test.text(index, "title"), test.text(index, "artist")]
    return ", ".join(filter(None, names)) or test.object_ids[index]


def link(test: TestSet, index: int) -> str:
    """The object's page in the museum."""
    return web_link({"link": test.text(index, "link")})


def credit(test: TestSet, index: int) -> str:
    """Whom the image is owed to, and what may be done with it."""
    return credit_line({name: test.text(index, name) for name in ("credit", "rights")})  # the artist is in the caption


def percent(probability: float) -> str:
    """`0.937` as `94 %`; beyond 99 % and below 1 %, where a digit more tells something, `99.6 %`."""
    return f"{100 * probability:.0f} %" if 0.01 <= probability <= 0.99 else f"{100 * probability:.1f} %"
