"""The page with the learning curves: how loss and accuracy went, epoch by epoch."""

from components.shared.report import Report, notice, plot, table
from components.train.result import TrainingResult

_COLOURS = {"training": "#3b6ea5", "validation": "#c2571a"}


def save(result: TrainingResult, path: str) -> None:
    """Writes the page of the training whose history `result` holds."""
    history, metrics = result.history, result.metrics
    best = int(metrics.get("best_epoch", len(history)))
    report = Report(
        f"Training of {result.model}",
        f"The weights of epoch {best} of {len(history)} are exported: {metrics['validation_accuracy']:.1%} of the "
        "validation pictures are right.",
        {
            "validation accuracy": f"{metrics['validation_accuracy']:.1%}",
            "epochs": len(history),
            "training": f"{result.seconds:.0f} s",
            "images per second": f"{result.images_per_second:.0f}",
        },
    )
    intro = "Training is measured while the weights change, with augmentation; validation after each epoch, without."
    report.section("Curves", plot(_figure(history, best), _description(history)), *_advice(history, best), intro=intro)
    columns = ["epoch", "phase", "loss", "accuracy", "validation loss", "validation accuracy"]
    report.section("Epochs", table(columns, [_row(entry) for entry in history]))
    report.save(path)


def _figure(history: list[dict[str, float]], best: int):
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    epochs = [entry["epoch"] for entry in history]
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for kind, prefix in (("training", ""), ("validation", "validation_")):
            values = [entry[f"{prefix}{name}"] for entry in history]
            axes.plot(epochs, values, color=_COLOURS[kind], label=kind, marker="o" if len(epochs) < 15 else None, ms=4)
        axes.axvline(best, color="#888888", lw=1, ls=":", label="exported")
        starts = [entry["epoch"] for before, entry in zip(history, history[1:]) if before["phase"] != entry["phase"]]
        for start in starts:
            axes.axvline(start - 0.5, color="#888888", lw=1, label="fine-tuning starts")
        axes.set(title=name, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def _advice(history: list[dict[str, float]], best: int) -> list:
    last = history[-1]
    if best == len(history) and len(history) > 1:
        return [notice("The last epoch is the best: more epochs may still help.", "warn")]
    if last["accuracy"] - last["validation_accuracy"] > 0.15:
        text = "The training pictures are learnt much better than the others: try augmentation=strong."
        return [notice(text, "warn")]
    return []


def _description(history: list[dict[str, float]]) -> str:
    first, last = history[0], history[-1]
    return (
        f"Over {len(history)} epochs the training loss goes from {first['loss']:.2f} to {last['loss']:.2f} "
        f"and the validation accuracy from {first['validation_accuracy']:.2f} to {last['validation_accuracy']:.2f}."
    )


def _row(entry: dict[str, float]) -> list[object]:
    names = ("loss", "accuracy", "validation_loss", "validation_accuracy")
    return [entry["epoch"], entry["phase"], *(round(entry[name], 4) for name in names)]
