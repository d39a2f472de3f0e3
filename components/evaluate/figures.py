"""The plots of the report, as matplotlib figures."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from components.evaluate.abstention import Abstention
from components.evaluate.calibration import BINS, Reliability
from components.evaluate.metrics import Analysis, class_curves, wilson
from components.shared.display import plot_text
from components.shared.report import INK, SERIES, SOFT

# More classes than this are not readable in one matrix or one legend.
MATRIX_CLASSES = 30
CURVES = 8
# Inches, at 96 pixels each, for places of a half and a third of the page: the type (in points) must be read there and,
# where the place is a phone's whole width, too.
_HALF, _THIRD = (4.3, 3.9), (3.45, 3.2)
_TITLE, _TYPE = 10, 9
_ACCENT, _COOL = SERIES[:2]
_SHARES = LinearSegmentedColormap.from_list("shares", ["#f4efe6", "#c99b6d", "#7a3b2e"])


def confusion_matrix(labels: list[str], matrix: list[list[int]]) -> Figure:
    """Counts in the cells, colour by share of the true class; up to MATRIX_CLASSES + 1 labels."""
    counts = np.array(matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 1.2 + max(0.29, 0.62 - 0.012 * len(labels)) * len(labels)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap=_SHARES, vmin=0, vmax=1)
    size = 10 if len(labels) <= 12 else 8
    for row, column in np.argwhere(counts):
        colour = "white" if shares[row, column] > 0.6 else INK
        small = size - max(0, len(str(counts[row, column])) - 3)
        axes.text(column, row, counts[row, column], ha="center", va="center", color=colour, fontsize=small)
    names = [plot_text(label, 22) for label in labels]
    axes.set_xticks(range(len(labels)), names, rotation=45, ha="right", fontsize=size)
    axes.set_yticks(range(len(labels)), names, fontsize=size)
    axes.set_xlabel("taken for", color=INK, fontsize=size + 2)
    axes.set_ylabel("is", color=INK, fontsize=size + 2)
    axes.tick_params(length=0, labelcolor=INK)
    axes.spines[:].set_visible(False)
    return figure


def reliability(found: Reliability, title: str) -> Figure:
    """Reliability diagram: the dots' areas are numbers of images, the lines 95 % Wilson intervals."""
    figure = Figure(figsize=_THIRD, layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle="--")
    sizes = 260 * np.array(found.counts) / max(found.counts)
    ends = [wilson(round(share * n), n) for share, n in zip(found.accuracies, found.counts)]
    axes.vlines(found.confidences, *zip(*ends), color=_ACCENT, linewidth=1.2, alpha=0.45)
    axes.scatter(found.confidences, found.accuracies, s=12 + sizes, color=_ACCENT, alpha=0.85, linewidths=0)
    _unit_square(axes, f"{title}: ECE {found.ece:.3f}", "confidence", "share of correct answers")
    return figure


def confidences(analysis: Analysis) -> Figure:
    """How sure the model is where it is right and where it is wrong: one bar pair a bin."""
    figure = Figure(figsize=_THIRD, layout="constrained")
    axes = figure.add_subplot()
    groups = [analysis.confidences[analysis.correct], analysis.confidences[~analysis.correct]]
    edges = np.linspace(0, 1, BINS + 1)
    axes.hist(groups, bins=list(edges), stacked=True, color=[_COOL, _ACCENT], label=["right", "wrong"], rwidth=0.9)
    axes.set_xlim(0, 1)
    _legend(figure)
    _plain(axes, "right and wrong answers", "confidence", "pictures")
    return figure


def coverage(found: Abstention) -> Figure:
    """How often the sets hold the truth, against how often they were to."""
    figure = Figure(figsize=_THIRD, layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle="--")
    axes.plot([each.coverage for each in found.curve], [each.covered for each in found.curve], "o-", color=_COOL)
    axes.plot(found.at.coverage, found.at.covered, "o", color=_ACCENT, markersize=9)
    axes.set_xlim(0.45, 1.02)
    axes.set_ylim(0.45, 1.02)
    _plain(axes, "does the set hold the truth", "coverage asked for", "share of the test pictures")
    return figure


def answered(found: Abstention) -> Figure:
    """Accuracy of the answers with one label against the share of the images that get one."""
    figure = Figure(figsize=_THIRD, layout="constrained")
    axes = figure.add_subplot()
    points = [(each.answered, each.accuracy) for each in found.curve if each.accuracy is not None]
    if points:
        axes.plot(*zip(*points), "o", color=_COOL)
    if found.at.accuracy is not None:
        axes.plot(found.at.answered, found.at.accuracy, "o", color=_ACCENT, markersize=9)
    axes.set_xlim(-0.02, 1.03)
    axes.set_ylim(min([0.9, *(accuracy - 0.03 for _, accuracy in points)]), 1.01)
    _plain(axes, "coverage against accuracy", "share that gets one label", "share of these that is right")
    return figure


def curves(analysis: Analysis) -> tuple[Figure, Figure]:
    """ROC and precision-recall: every class, or the CURVES classes with the lowest average precision."""
    figures = [Figure(figsize=_HALF, layout="constrained") for _ in range(2)]
    roc, pr = (figure.add_subplot() for figure in figures)
    rows = enumerate(analysis.classes)
    scored = [(row.average_precision, index) for index, row in rows if row.average_precision is not None]
    chosen = sorted(index for _, index in sorted(scored)[:CURVES])
    for index, colour in zip(chosen, SERIES):
        row = analysis.classes[index]
        (false, true), (recall, precision) = class_curves(analysis, index)
        name = plot_text(row.label, 18)
        roc.plot(false, true, linewidth=1.5, color=colour, label=f"{name} {row.roc_auc:.3f}")
        pr.plot(recall, precision, linewidth=1.5, color=colour, label=f"{name} {row.average_precision:.3f}")
    roc.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle="--")
    _unit_square(roc, "ROC, with the area under it", "false positive rate", "true positive rate")
    _unit_square(pr, "precision and recall, with the average precision", "recall", "precision")
    for figure in figures if chosen else ():
        _legend(figure)
    return figures[0], figures[1]


def _unit_square(axes, title: str, x: str, y: str) -> None:
    axes.set_xlim(-0.02, 1.03)
    axes.set_ylim(-0.02, 1.05)
    _plain(axes, title, x, y)


def _legend(figure: Figure) -> None:
    """Below the axes: inside, the curves or bars of some model would run through it."""
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=_TYPE, labelcolor=INK)


def _plain(axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=_TITLE, color=INK)
    axes.set_xlabel(x, fontsize=_TYPE, color=INK)
    axes.set_ylabel(y, fontsize=_TYPE, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(SOFT)
    axes.tick_params(colors=SOFT, labelcolor=INK, labelsize=_TYPE)
