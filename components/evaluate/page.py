"""The evaluation report: one HTML page for the person who decides whether this model may be trusted."""

from components.artifacts.classifier import TFLITE
from components.evaluate import figures, words
from components.evaluate.abstention import Abstention
from components.evaluate.findings import Findings
from components.evaluate.gallery import Gallery
from components.evaluate.gate import Comparison, p_text
from components.evaluate.metrics import Analysis, Slice, condensed, top_confusions
from components.shared.intervals import wilson
from components.shared.report import Report, bars, beside, card, notice, pictures, plot, table

_CONFUSIONS = 25
_CHANGES = 10
_SLICES = 12
# Up to so many classes the matrix leaves room for the table beside it.
_SMALL_MATRIX = 8


def write(found: Findings, gallery: Gallery, path: str) -> None:
    """Writes the report to `path`."""
    judgement, _ = words.headline(found)
    lead = f"{judgement} {words.lead(found)} {words.weaknesses(found)}"
    report = Report("Evaluation report", tight(lead), facts(found), footer=words.origin(found))
    notices = [
        (words.verdict(found), "ok" if found.verdict.passed else "fail"),
        *((text, "warn") for text in words.caveats(found)),
        (words.calibration(found.analysis), "ok" if found.analysis.after.ece < 0.05 else "warn"),
        (words.contradicted(found.analysis), "warn"),
    ]
    report.section("May it be served", *(notice(tight(text), kind) for text, kind in notices if text))
    if found.comparison:
        _champion(report, found.comparison)
    _floors(report, found.card.get("comparison", []))
    _classes(report, found.analysis)
    _confusions(report, found.analysis, gallery)
    _mistakes(report, found.analysis, gallery)
    if found.slices:
        _slices(report, found)
    _calibration(report, found)
    if found.abstention:
        _abstention(report, found.abstention)
    _curves(report, found.analysis)
    _numbers(report, found)
    report.save(path)


def _floors(report: Report, comparison: list[dict]) -> None:
    """What the training step compared its model with, on the validation split."""
    rows = []
    for entry in comparison:
        low, high = wilson(round(entry["accuracy"] * entry["examples"]), entry["examples"])
        between = f"{words.percent(low)} to {words.percent(high)}"
        name = f"{entry['name']} (this model)" if entry["taken"] else entry["name"]
        rows.append([name, words.percent(entry["accuracy"]), between])
    if rows:
        intro = "On the validation split, before this evaluation: a model below one of the others does not go on."
        headings = ["", "validation accuracy", "95 % interval"]
        report.section("Compared with", table(headings, rows, sortable=False), intro=intro)


def facts(found: Findings) -> dict[str, str]:
    """The eight tiles at the top; the model's size gives way to the first five answers, where five say something."""
    analysis, scores = found.analysis, found.analysis.scores
    has_five = len(analysis.labels) > 5
    five = {"among the first five": words.percent(scores["top5_accuracy"])} if has_five else {}
    size = {} if has_five else {TFLITE: f"{found.model_bytes / 1e6:.1f} MB"}
    return (
        {"accuracy": words.percent(scores["accuracy"])}
        | five
        | {
            "macro F1": f"{scores['macro_f1']:.3f}",
            "log loss": f"{scores['log_loss']:.3f}",
            "calibration error (ECE)": f"{scores['ece']:.3f}",
            "test pictures": f"{len(analysis.targets):,}",
            "classes": f"{len(analysis.labels):,}",
            "one picture, on one core": f"{found.latency_ms:.1f} ms",
        }
        | size
    )


def _champion(report: Report, comparison: Comparison) -> None:
    rows = [
        ["both right", comparison.both],
        ["only this model right", comparison.gained],
        ["only the champion right", comparison.lost],
        ["both wrong", comparison.neither],
    ]
    changes = [[c.label, c.support, c.before, c.after, c.after - c.before] for c in comparison.classes]
    shown = [*changes[:_CHANGES], *changes[_CHANGES:][-_CHANGES:]]
    differ = comparison.gained + comparison.lost
    report.section(
        "Against the champion",
        beside(
            table(["the same pictures", "count"], rows, sortable=False),
            table(["class", "pictures", "recall before", "recall now", "change"], shown),
        ),
        intro=(
            f"Champion: {comparison.champion}, accuracy {comparison.champion_accuracy:.3f} on the same pictures. On "
            f"{differ} of them just one of the two is right; if both were equally good, chance would split these as "
            f"unevenly as {comparison.gained} to {comparison.lost} with {p_text(comparison.p_value)} (McNemar's exact "
            "test)."
        ),
    )


def _classes(report: Report, analysis: Analysis) -> None:
    rows = [
        [
            row.label,
            row.support,
            *(_number(value) for value in (row.recall, row.precision, row.f1, row.roc_auc, row.average_precision)),
            f"{row.confused_with} ({row.confused})" if row.confused else "",
        ]
        for row in sorted(analysis.classes, key=lambda row: (row.f1 is None, row.f1 or 0, -row.support))
    ]
    columns = ["class", "pictures", "recall", "precision", "F1", "ROC AUC", "average precision", "most often taken for"]
    report.section(
        "Classes",
        table(columns, rows),
        intro="Weakest first; a click on a heading sorts. Recall: the share of the class that is found. Precision: "
        "the share of the answers of this class that are right.",
    )


def _confusions(report: Report, analysis: Analysis, gallery: Gallery) -> None:
    blocks = []
    count = len(analysis.labels)
    labels, matrix = condensed(analysis, figures.MATRIX_CLASSES)
    intro = "Rows are what the pictures are, columns what they are taken for; the colour is the share of the row."
    if count > figures.MATRIX_CLASSES:
        intro += f" Of {count} classes, those with most mistakes are shown, and the others in one row."
    blocks.append(plot(figures.confusion_matrix(labels, matrix), "Confusion matrix"))
    rows = [
        [analysis.labels[true], analysis.labels[predicted], times, times / analysis.classes[true].support]
        for true, predicted, times in top_confusions(analysis, _CONFUSIONS)
    ]
    if rows:
        blocks.append(table(["is", "taken for", "pictures", "of the class"], rows))
    small = len(labels) <= _SMALL_MATRIX
    report.section("Confusions", *([beside(*blocks)] if small else blocks), intro=intro)
    if gallery.pairs:
        cards = [card(pair.caption, pictures([pair.left, pair.right], 140)) for pair in gallery.pairs]
        report.section(
            "Confusions as pairs",
            beside(*cards, width=18),
            intro="Left the mistaken picture, right one of the class it was taken for that the model finds alike.",
        )


def _mistakes(report: Report, analysis: Analysis, gallery: Gallery) -> None:
    if not gallery.worst:
        report.section("Mistakes", notice(f"None of the {len(analysis.targets):,} test pictures is misclassified."))
    else:
        intro = "Where the model is most sure and wrong. Look here for wrong labels first, and say which is right."
        report.review("Worst mistakes", gallery.worst, analysis.labels, intro)
    if gallery.uncertain:
        report.section(
            "Most uncertain mistakes", pictures(gallery.uncertain, 150), intro="Where it was wrong and hardly sure."
        )
    if gallery.maps:
        cards = [card(pair.caption, pictures([pair.left, pair.right], 140)) for pair in gallery.maps]
        report.section(
            "What the model looked at",
            beside(*cards, width=18),
            intro="Left what the model saw. Right, warm, where a grey patch makes its answer fall most.",
        )


def _slices(report: Report, found: Findings) -> None:
    marks = {"below": "below the rest", "above": "above the rest", "": ""}
    rows = [
        [
            part.column,
            part.value,
            part.support,
            part.accuracy,
            f"{part.interval[0]:.2f} to {part.interval[1]:.2f}",
            marks[part.standing],
        ]
        for part in shown_slices(found)
    ]
    report.section(
        "Parts of the collection",
        table(["by", "value", "pictures", "accuracy", "95 % interval", ""], rows),
        intro="Accuracy on parts of the test split with at least 5 pictures. A part is marked only if "
        "chance does not explain its difference, also with so many parts compared.",
    )


def shown_slices(found: Findings) -> list[Slice]:
    """Of each column the largest _SLICES values and all that stand out."""
    seen: dict[str, int] = {}
    shown = []
    for part in found.slices:
        seen[part.column] = seen.get(part.column, 0) + 1
        if part.standing or seen[part.column] <= _SLICES:
            shown.append(part)
    return shown


def _calibration(report: Report, found: Findings) -> None:
    analysis = found.analysis
    report.section(
        "Calibration",
        beside(
            plot(figures.reliability(analysis.before, "without temperature"), "Reliability without temperature", True),
            plot(
                figures.reliability(analysis.after, f"temperature {found.temperature:.2f}"), "Reliability with it", True
            ),
            plot(figures.confidences(analysis), "Confidence of right and wrong answers", True),
            width=18,
        ),
        intro="On the dashed line, confidence is what it promises: of answers given with 0.8, 80 % are right. The "
        "temperature was fitted on the validation split and is inside the exported model.",
    )


def _abstention(report: Report, found: Abstention) -> None:
    rows = [
        [
            words.percent(each.coverage),
            words.percent(each.covered),
            f"{each.size:.2f}",
            words.percent(each.answered),
            "–" if each.accuracy is None else words.percent(each.accuracy),
        ]
        for each in found.curve
    ]
    headings = ["coverage asked for", "sets with the truth", "labels in a set", "answered", "of these right"]
    report.section(
        "When it does not know",
        notice(tight(words.abstention(found))),
        beside(
            plot(figures.coverage(found), "Coverage that was asked for and that the test split has", True),
            plot(figures.answered(found), "Accuracy of the answers against their share", True),
            card(
                "Labels that cannot be excluded",
                bars([(name, share, words.percent(share)) for name, share in found.sizes], whole=1),
            ),
            width=18,
        ),
        table(headings, rows, sortable=False),
        intro="Asked with a coverage, the model answers with a set of labels that holds the truth as often as that, "
        "and with one label only where the set has one member; else it says that it does not know. So it does of "
        "pictures that are unlike all it learned from. Set sizes and distance were measured on the validation split.",
    )


def _curves(report: Report, analysis: Analysis) -> None:
    scored = [row for row in analysis.classes if row.average_precision is not None]
    intro = "ROC and precision-recall, each class against all others."
    if len(scored) > figures.CURVES:
        intro += f" The {figures.CURVES} classes with the lowest average precision; the table above has all."
    roc, precision_recall = figures.curves(analysis)
    report.section(
        "Curves",
        beside(plot(roc, "ROC curves", True), plot(precision_recall, "Precision-recall curves", True)),
        intro=intro,
    )


def _numbers(report: Report, found: Findings) -> None:
    analysis, intervals = found.analysis, found.analysis.intervals
    rows = [
        [title, analysis.scores[name], "{:.3f} to {:.3f}".format(*intervals[name]) if name in intervals else ""]
        for name, title in words.titles(analysis).items()
    ]
    about = {
        TFLITE: f"{found.model_bytes:,} bytes",
        "SavedModel": f"{found.saved_model_bytes:,} bytes",
        "accuracy of the SavedModel": f"{found.saved_model_accuracy:.3f}",
        "both answer alike": words.percent(found.agreement),
        "one picture takes": f"{found.latency_ms:.2f} ms (median, decoding included, one core)",
    }
    report.section(
        "All numbers",
        beside(
            table(["", "value", "95 % interval"], rows, sortable=False),
            table(["model", ""], list(about.items()), sortable=False),
        ),
        intro="Of model.tflite, the file that the server runs. Macro averages are over the classes of the test split. "
        "Intervals are bootstrap intervals from 1,000 resamples of whole groups.",
    )


def tight(text: str) -> str:
    """`text` whose numbers stay on a line with their per cent sign."""
    return text.replace(" %", "\u00a0%")


def _number(value: float | None) -> float | str:
    return "–" if value is None else value
