"""The plots of the report, as matplotlib figures."""

import numpy as np
from matplotlib.figure import Figure

from components.evaluate.calibration import BINS, Reliability
from components.evaluate.metrics import Analysis, class_curves, wilson

# More classes than this are not readable in one matrix or one legend.
MATRIX_CLASSES = 30
CURVES = 8
# Inches: half of the page's width.
_HALF = 5.4
_INK, _SOFT, _ACCENT, _COOL = "#22201c", "#8a847a", "#7a3b2e", "#4a6c8c"


def confusion_matrix(labels: list[str], matrix: list[list[int]]) -> Figure:
    """Counts in the cells, colour by share of the true class; up to MATRIX_CLASSES + 1 labels."""
    counts = np.array(matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 1.6 + max(0.34, 0.62 - 0.012 * len(labels)) * len(labels)
    figure = Figure(figsize=(side + 0.8, side))
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Oranges", vmin=0, vmax=1.15)
    size = 10 if len(labels) <= 12 else 8
    for row, column in np.argwhere(counts):
        colour = "white" if shares[row, column] > 0.6 else _INK
        small = size - (counts[row, column] > 999)
        axes.text(column, row, counts[row, column], ha="center", va="center", color=colour, fontsize=small)
    names = [_short(label) for label in labels]
    axes.set_xticks(range(len(labels)), names, rotation=45, ha="right", fontsize=size)
    axes.set_yticks(range(len(labels)), names, fontsize=size)
    axes.set_xlabel("taken for", color=_SOFT)
    axes.set_ylabel("is", color=_SOFT)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def reliability(found: Reliability, title: str) -> Figure:
    """Reliability diagram: the dots' areas are numbers of pictures, the lines 95 % Wilson intervals."""
    figure = Figure(figsize=(_HALF, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=_SOFT, linewidth=1, linestyle="--")
    sizes = 260 * np.array(found.counts) / max(found.counts)
    ends = [wilson(round(share * n), n) for share, n in zip(found.accuracies, found.counts)]
    axes.vlines(found.confidences, *zip(*ends), color=_ACCENT, linewidth=1.2, alpha=0.45)
    axes.scatter(found.confidences, found.accuracies, s=12 + sizes, color=_ACCENT, alpha=0.85, linewidths=0)
    _unit_square(axes, f"{title}: ECE {found.ece:.3f}", "confidence", "share of correct answers")
    return figure


def confidences(analysis: Analysis) -> Figure:
    """How sure the model is where it is right and where it is wrong: one bar pair a bin."""
    figure = Figure(figsize=(_HALF, 4.4), layout="constrained")
    axes = figure.add_subplot()
    groups = [analysis.confidences[analysis.correct], analysis.confidences[~analysis.correct]]
    edges = np.linspace(0, 1, BINS + 1)
    axes.hist(groups, bins=edges, stacked=True, color=[_COOL, _ACCENT], label=["right", "wrong"], rwidth=0.9)
    axes.set_title("right and wrong answers", fontsize=11, color=_INK)
    axes.set_xlabel("confidence")
    axes.set_ylabel("pictures")
    axes.set_xlim(0, 1)
    axes.legend(frameon=False, loc="upper left")
    _plain(axes)
    return figure


def curves(analysis: Analysis) -> tuple[Figure, Figure]:
    """ROC and precision-recall: every class, or the CURVES classes with the lowest average precision."""
    figures = [Figure(figsize=(_HALF, 4.6), layout="constrained") for _ in range(2)]
    roc, pr = (figure.add_subplot() for figure in figures)
    scored = [i for i, row in enumerate(analysis.classes) if row.average_precision is not None]
    chosen = sorted(scored, key=lambda index: analysis.classes[index].average_precision)[:CURVES]
    for index in sorted(chosen):
        row = analysis.classes[index]
        (false, true), (recall, precision) = class_curves(analysis, index)
        roc.plot(false, true, linewidth=1.4, label=f"{_short(row.label)} {row.roc_auc:.3f}")
        pr.plot(recall, precision, linewidth=1.4, label=f"{_short(row.label)} {row.average_precision:.3f}")
    roc.plot([0, 1], [0, 1], color=_SOFT, linewidth=1, linestyle="--")
    _unit_square(roc, "ROC, with the area under it", "false positive rate", "true positive rate")
    _unit_square(pr, "precision and recall, with the average precision", "recall", "precision")
    if chosen:
        roc.legend(frameon=False, fontsize=9, loc="lower right")
        pr.legend(frameon=False, fontsize=9, loc="lower left")
    return figures[0], figures[1]


def _unit_square(axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=11, color=_INK)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_xlim(-0.02, 1.03)
    axes.set_ylim(-0.02, 1.05)
    _plain(axes)


def _plain(axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_SOFT)
    axes.tick_params(colors=_SOFT, labelcolor=_INK, labelsize=9)


def _short(label: str, length: int = 22) -> str:
    return label if len(label) <= length else label[: length - 1].rstrip() + "…"
