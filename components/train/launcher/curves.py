"""The page with the learning curves: loss and accuracy, epoch by epoch, and what a model must be better than."""

from components.shared.intervals import wilson
from components.shared.report import INK, SERIES, SOFT, Report, beside, notice, percent, plot, table
from components.train.result import TrainingResult

_COLOURS = dict(zip(("validation", "training"), SERIES))
# Inches, for half of the page, where 9 points are read on a phone as well.
_SIZE, _TYPE = (4.3, 3.3), 9


def save(result: TrainingResult, path: str) -> None:
    """Writes the page of the training whose history `result` holds."""
    history, metrics = result.history, result.metrics
    best = int(metrics.get("best_epoch", len(history)))
    epochs = [entry for entry in history if entry["epoch"]]
    right = f"{percent(metrics['validation_accuracy'])} of the validation pictures are right"
    what = f"The weights of epoch {best} of {len(epochs)}" if best else "A regression on the frozen network's features"
    fitted = "" if best else ", by one that has not seen them; what goes on is fitted on them too"
    report = Report(
        f"Training of {result.model}",
        f"{what} {'are' if best else 'is'} exported: {right}{fitted}.",
        {
            "validation accuracy": percent(metrics["validation_accuracy"]),
            **({"epochs": len(epochs)} if epochs else {}),
            "training": f"{result.seconds:.0f} s",
            **({"images per second": f"{result.images_per_second:.0f}"} if epochs else {}),
        },
    )
    _compare(report, result)
    if epochs:
        intro = (
            "Training is measured while the weights change, with augmentation; validation after each epoch, without."
        )
        plots = [plot(_figure(history, best, name), _description(history, name), True) for name in ("loss", "accuracy")]
        report.section("Curves", beside(*plots), *_advice(history, best), intro=intro)
    columns = ["epoch", "phase", "loss", "accuracy", "validation loss", "validation accuracy"]
    report.section("Epochs", table(columns, [_row(entry) for entry in history]))
    report.save(path)


def _compare(report: Report, result: TrainingResult) -> None:
    """The floors below which no model goes on, and what the regression on frozen features tried."""
    rows = []
    for entry in result.comparison:
        low, high = wilson(round(entry["accuracy"] * entry["examples"]), entry["examples"])
        between = f"{percent(low)} to {percent(high)}"
        name = f"{entry['name']} (goes on)" if entry["taken"] else entry["name"]
        rows.append([name, percent(entry["accuracy"]), between])
    tried = [[name, percent(accuracy)] for name, accuracy in result.tried.items()]
    blocks = [table(["", "validation accuracy", "95 % interval"], rows, sortable=False)] if rows else []
    if tried:
        blocks.append(table(["regression on", "cross-validated accuracy"], tried, sortable=False))
    if blocks:
        intro = "Each row of the second table is compared with what was best before it." if tried else ""
        report.section("Compared with", beside(*blocks), intro=intro)


def _figure(history: list[dict[str, float]], best: int, name: str):
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot()
    epochs = [entry["epoch"] for entry in history]
    for kind, prefix in (("training", ""), ("validation", "validation_")):
        values = [entry[f"{prefix}{name}"] for entry in history]
        axes.plot(epochs, values, color=_COLOURS[kind], label=kind, marker="o" if len(epochs) < 15 else None, ms=4)
    axes.axvline(best, color=SOFT, lw=1, ls=":", label="exported")
    starts = [entry["epoch"] for before, entry in zip(history, history[1:]) if before["phase"] != entry["phase"]]
    for start in starts:
        axes.axvline(start - 0.5, color=SOFT, lw=1, label="fine-tuning starts")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(SOFT)
    axes.tick_params(colors=SOFT, labelcolor=INK, labelsize=_TYPE)
    axes.set_title(name, fontsize=_TYPE + 1, color=INK)
    axes.set_xlabel("epoch", fontsize=_TYPE, color=INK)
    figure.legend(loc="outside lower center", ncols=2 if starts else 3, frameon=False, fontsize=_TYPE, labelcolor=INK)
    return figure


def _advice(history: list[dict[str, float]], best: int) -> list:
    last = history[-1]
    if best == last["epoch"] > 1:
        return [notice("The last epoch is the best: more epochs may still help.", "warn")]
    if last["accuracy"] - last["validation_accuracy"] > 0.15:
        text = "The training pictures are learnt much better than the others: try augmentation=strong."
        return [notice(text, "warn")]
    return []


def _description(history: list[dict[str, float]], name: str) -> str:
    first, last = history[0], history[-1]
    ways = [
        f"{entry[name]:.2f} in training, {entry[f'validation_{name}']:.2f} in validation" for entry in (first, last)
    ]
    return f"Over {last['epoch']} epochs the {name} goes from {ways[0]} to {ways[1]}."


def _row(entry: dict[str, float]) -> list[object]:
    names = ("loss", "accuracy", "validation_loss", "validation_accuracy")
    return [entry["epoch"], entry["phase"], *(round(entry[name], 4) for name in names)]
