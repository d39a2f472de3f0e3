"""The findings in plain sentences: what a curator reads first, and what the run's page shows."""

from components.evaluate.abstention import Abstention
from components.evaluate.findings import Findings
from components.evaluate.gate import SIGNIFICANCE, p_text
from components.evaluate.metrics import Analysis, ClassScore

TITLES = {
    "accuracy": "Accuracy",
    "top5_accuracy": "Top-5 accuracy",
    "macro_precision": "Macro precision",
    "macro_recall": "Macro recall",
    "macro_f1": "Macro F1",
    "weighted_precision": "Weighted precision",
    "weighted_recall": "Weighted recall",
    "weighted_f1": "Weighted F1",
    "log_loss": "Log loss (nats)",
    "ece": "Calibration error (ECE)",
}
# Below this recall more than half of a class is missed.
_WEAK_RECALL = 0.5
# Gap between confidence and accuracy that a reader of probabilities would notice.
_NOTICEABLE_ECE = 0.05
# A label that the model contradicts so surely is more often the label's fault than the model's.
_CONTRADICTED = 0.9
# Shares of the possible gain over guessing: from here on the model is good, fair.
_GOOD, _FAIR = 0.75, 0.5


def headline(found: Findings) -> tuple[str, str]:
    """The judgement as (text, kind), kind being ok, warn or fail."""
    analysis = found.analysis
    if not found.guessing.beaten:
        text = str(found.guessing)
        return f"{text[0].upper()}{text[1:]}.", "fail"
    _, share = analysis.majority
    skill = (analysis.scores["accuracy"] - share) / (1 - share)
    quality = "Good" if skill >= _GOOD else "Fair" if skill >= _FAIR else "Weak, though better than guessing"
    weak = [row.label for row in weak_classes(analysis)]
    if weak:
        many = f"{len(weak)} of the {len(analysis.labels)} classes"
        quality += f", except for {listed(weak, 5) if len(weak) <= 5 else many}"
    if not found.verdict.passed:
        return f"{quality}, but it did not pass the gate.", "fail"
    return f"{quality}: it passed the gate.", "ok" if quality == "Good" else "warn"


def lead(found: Findings) -> str:
    """Accuracy and its interval, against guessing."""
    analysis = found.analysis
    low, high = analysis.intervals["accuracy"]
    largest, share = analysis.majority
    return (
        f"{percent(analysis.scores['accuracy'])} of {len(analysis.targets):,} test pictures are classified correctly "
        f"(95 % interval {percent(low)} to {percent(high)}); always answering {largest}, the largest class, "
        f"would be right in {percent(share)}."
    )


def weaknesses(found: Findings) -> str:
    """Where it is not good: the worst class, what it is taken for, and the slices that stand below the rest."""
    analysis = found.analysis
    sentences = []
    recall, _, worst = min(
        ((s.recall, -s.support, s) for s in analysis.classes if s.recall is not None), key=lambda found: found[:2]
    )
    if recall == 1:
        sentences.append("Every class is recognised without a mistake.")
    else:
        missed = worst.support - round(recall * worst.support)
        target = f", most often taken for {worst.confused_with} ({worst.confused})" if worst.confused_with else ""
        sentences.append(f"Weakest class: {worst.label}, {missed} of {worst.support} missed{target}.")
    below = [part for part in found.slices if part.standing == "below"]
    if below:
        named = [f"{part.column} {part.value} ({percent(part.accuracy)} of {part.support})" for part in below]
        sentences.append(f"Clearly below the rest: {listed(named, 3)}.")
    absent = [score.label for score in analysis.classes if not score.support]
    if absent:
        sentences.append(f"Not tested, since the test split has no picture of it: {listed(absent, 5)}.")
    return " ".join(sentences)


def calibration(analysis: Analysis) -> str:
    """Whether the probabilities can be taken at their word."""
    off = f"off by {100 * analysis.after.ece:.1f} percentage points on average"
    if analysis.after.ece < _NOTICEABLE_ECE:
        return f"Its probabilities can be taken at their word: they are {off}."
    side = "surer than it should be" if analysis.after.gap > 0 else "less sure than it could be"
    return f"Its probabilities are {off}: it is {side}."


def abstention(found: Abstention) -> str:
    """What it does where it may say that it does not know, at the coverage that was asked for."""
    at = found.at
    right = "" if at.accuracy is None else f", and is right in {percent(at.accuracy)} of these answers"
    return (
        f"With a coverage of {percent(at.coverage)} it answers {percent(at.answered)} of the test pictures with one "
        f"label{right}. The true label is in {percent(at.covered)} of its sets. {percent(found.unlike)} of the test "
        "pictures are taken for unlike what it learned from."
    )


def contradicted(analysis: Analysis) -> str:
    """How many labels the model contradicts surely: the first place to look for wrong labels; "" if none."""
    count = int((~analysis.correct & (analysis.confidences >= _CONTRADICTED)).sum())
    if not count:
        return ""
    pictures = "1 picture contradicts its label" if count == 1 else f"{count} pictures contradict their labels"
    return f"{pictures} with a confidence of {percent(_CONTRADICTED)} or more: see the worst mistakes for wrong labels."


def gate(found: Findings) -> str:
    """The verdict with its reasons as a sentence, and what to keep in mind about it."""
    return " ".join([verdict(found), *caveats(found)])


def verdict(found: Findings) -> str:
    """The verdict with its reasons."""
    start = "Passed the gate: " if found.verdict.passed else "Did not pass the gate: "
    return start + "; ".join(found.verdict.reasons) + "."


def caveats(found: Findings) -> list[str]:
    """Why the comparison with the champion is uneven, a sentence each."""
    return [f"Note: {text}." for text in found.verdict.caveats]


def titles(analysis: Analysis) -> dict[str, str]:
    """The scores that are shown, with their titles; of up to five classes the true one is always in the top five."""
    few = len(analysis.labels) <= 5
    return {name: title for name, title in TITLES.items() if not (few and name == "top5_accuracy")}


def origin(found: Findings) -> str:
    """Which model and which data this is about."""
    card = found.card
    parts = [str(card.get("name", "")), f"made {card['created']}" if "created" in card else ""]
    parts.append(f"from data set {str(card['snapshot'])[:12]}" if "snapshot" in card else "")
    return "Model " + " ".join(filter(None, parts))


def weak_classes(analysis: Analysis) -> list[ClassScore]:
    """Classes of which more than half is missed, and not by chance alone; the largest first."""
    rows = [s for s in analysis.classes if s.recall is not None and s.recall < _WEAK_RECALL and s.support > 1]
    return sorted(rows, key=lambda s: -s.support)


def markdown(found: Findings) -> str:
    """The summary that the run's page shows."""
    analysis, scores = found.analysis, found.analysis.scores
    lines = [
        f"# {escaped(headline(found)[0])}",
        f"**{escaped(gate(found))}**",
        escaped(f"{lead(found)} {weaknesses(found)} {calibration(analysis)} {contradicted(analysis)}".rstrip()),
        "",
        "| | value | 95 % interval |",
        "|---|---|---|",
    ]
    for name, title in titles(analysis).items():
        interval = analysis.intervals.get(name)
        shown = f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else ""
        lines.append(f"| {title} | {scores[name]:.3f} | {shown} |")
    if found.abstention:
        at = found.abstention.at
        lines.append(f"| Answered with one label, coverage {at.coverage:g} | {at.answered:.3f} | |")
        lines.append(f"| Accuracy of these answers | {'–' if at.accuracy is None else f'{at.accuracy:.3f}'} | |")
    lines.append(f"| Latency, one picture | {found.latency_ms:.1f} ms | |")
    lines.append(f"| Size of model.tflite | {found.model_bytes / 1e6:.2f} MB | |")
    if found.comparison:
        comparison = found.comparison
        lines += [
            "",
            f"Champion `{comparison.champion}`: accuracy {comparison.champion_accuracy:.3f}; new model right where it "
            f"is wrong {comparison.gained} times, the other way round {comparison.lost} times, McNemar's exact "
            f"test {p_text(comparison.p_value)} ({comparison.outcome} at {SIGNIFICANCE:g}).",
        ]
    return "\n\n".join(lines[:3]) + "\n" + "\n".join(lines[3:]) + "\n"


def percent(share: float) -> str:
    """`0.934` as `93.4 %`, `1` as `100 %`."""
    return f"{100 * share:.1f}".removesuffix(".0") + " %"


def listed(names: list[str], most: int) -> str:
    """`a, b and c`; of more than `most` names, the others as a number."""
    shown = names if len(names) <= most else [*names[:most], f"{len(names) - most} more"]
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join("\\" + letter if letter in "*_`|[]<>" else letter for letter in text)
