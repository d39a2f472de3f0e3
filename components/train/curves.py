"""The curves of a training as one HTML page, for installs whose UI has no TensorBoard."""

from typing import Sequence

from matplotlib.figure import Figure

from components.shared import report
from components.train.result import TrainingResult

_COLUMNS = ("epoch", "phase", "loss", "accuracy", "validation_loss", "validation_accuracy")


def save(results: Sequence[TrainingResult], path: str) -> None:
    """Writes the page for the trained models, the best first, to `path`."""
    best = results[0]
    page = report.Report(
        "Training",
        lead=f"{best.model}: validation accuracy {best.metrics['validation_accuracy']:.1%} "
        f"in epoch {best.metrics['best_epoch']} of {best.metrics['epochs']}.",
        facts={
            "Validation accuracy": f"{best.metrics['validation_accuracy']:.1%}",
            "Validation loss": f"{best.metrics['validation_loss_calibrated']:.3f}",
            "Temperature": f"{best.metrics['temperature']:.2f}",
            "Duration": f"{best.seconds:.0f} s",
            "Images a second": f"{best.images_per_second:,.0f}",
        },
    )
    for result in results:
        page.section(
            result.model,
            report.plot(_figure(result), f"Loss and accuracy of {result.model} by epoch"),
            report.table(_COLUMNS, [[_cell(entry[name]) for name in _COLUMNS] for entry in result.history]),
            intro="The training loss includes label smoothing and augmentation; validation is of the averaged weights.",
        )
    page.save(path)


def _figure(result: TrainingResult) -> Figure:
    figure = Figure((9, 3.2), layout="constrained")
    epochs = [entry["epoch"] for entry in result.history]
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for prefix, label in (("", "training"), ("validation_", "validation")):
            axes.plot(epochs, [entry[prefix + name] for entry in result.history], label=label, marker=".")
        _mark_phases(axes, result)
        axes.axvline(result.metrics["best_epoch"], color="grey", linestyle=":", linewidth=1, label="best epoch")
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    return figure


def _mark_phases(axes, result: TrainingResult) -> None:
    for entry, following in zip(result.history, result.history[1:]):
        if entry["phase"] != following["phase"]:
            axes.axvline(entry["epoch"] + 0.5, color="grey", linewidth=1)
            axes.annotate(following["phase"].replace("_", " "), (entry["epoch"] + 0.6, axes.get_ylim()[1]), va="top")


def _cell(value: object) -> object:
    return round(value, 4) if isinstance(value, float) else value
