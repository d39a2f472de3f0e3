"""May the model be served: its accuracy, beside guessing, and beside the champion on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from components.artifacts.verdict import Verdict
from components.evaluate.guessing import SIGNIFICANCE, Guessing
from components.evaluate.settings import Settings


@dataclass(frozen=True)
class ClassChange:
    """A class and its recall under the champion and under the new model, on `support` images."""

    label: str
    support: int
    before: float
    after: float


@dataclass(frozen=True)
class Comparison:
    """The new model beside the champion.

    Attributes:
        champion: where the champion is.
        champion_accuracy: its accuracy on the same images.
        both, gained, lost, neither: images that both, only the new, only the old, or no model got right.
        p_value: McNemar's exact test, two-sided: how likely so uneven a split is if both models are equally good.
        classes: every class of the test split, largest loss first.
        caveats: why the two are not quite comparable, see components.evaluate.fairness.
    """

    champion: str
    accuracy: float
    champion_accuracy: float
    both: int
    gained: int
    lost: int
    neither: int
    p_value: float
    classes: tuple[ClassChange, ...]
    caveats: tuple[str, ...] = ()

    @property
    def outcome(self) -> str:
        """better, worse, or undecided: the difference may be chance."""
        if self.p_value >= SIGNIFICANCE:
            return "undecided"
        return "better" if self.gained > self.lost else "worse"

    def regressed(self, limit: float) -> list[ClassChange]:
        """Classes whose recall fell by more than `limit`; the net loss of a single image is not counted.

        In a class of five images one image is 0.2: with many small classes two equal models would always differ.
        """
        return [
            change
            for change in self.classes
            if change.before - change.after > limit + 1e-9 and (change.before - change.after) * change.support > 1.5
        ]


def compare(
    champion: str,
    targets: np.ndarray,
    new: np.ndarray,
    old: np.ndarray,
    labels: tuple[str, ...],
    caveats: Sequence[str] = (),
) -> Comparison:
    """Compares [n] predicted classes of the new and the old model on the same n images.

    A class that the old model does not know counts as its mistake, as it would in service.

    Source of the test: Q. McNemar (1947); exact binomial form as in Edwards (1948), since the counts may be small.
    """
    right, right_before = new == targets, old == targets
    gained, lost = int((right & ~right_before).sum()), int((~right & right_before).sum())
    p_value = float(binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0
    support = np.bincount(targets, minlength=len(labels))
    after = np.bincount(targets, right, len(labels)) / np.maximum(support, 1)
    before = np.bincount(targets, right_before, len(labels)) / np.maximum(support, 1)
    changes = [
        ClassChange(labels[index], int(support[index]), float(before[index]), float(after[index]))
        for index in np.argsort(after - before, kind="stable")
        if support[index]
    ]
    return Comparison(
        champion=champion,
        accuracy=float(right.mean()),
        champion_accuracy=float(right_before.mean()),
        both=int((right & right_before).sum()),
        gained=gained,
        lost=lost,
        neither=int((~right & ~right_before).sum()),
        p_value=p_value,
        classes=tuple(changes),
        caveats=tuple(caveats),
    )


def judge(settings: Settings, accuracy: float, guessing: Guessing, comparison: Comparison | None) -> Verdict:
    """Applies the rules, all of them, so that the reader learns every reason at once.

    Against a champion the burden of proof is on the new model: an undecided comparison does not pass.
    """
    checks = [_accuracy_rule(accuracy, settings.min_accuracy)]
    if settings.must_beat_guessing:
        checks.append((guessing.beaten, str(guessing)))
    if comparison:
        checks += [_champion_rule(comparison), _class_rule(comparison, settings.max_class_regression)]
    failed = tuple(reason for passed, reason in checks if not passed)
    reasons = failed or tuple(reason for _, reason in checks)
    return Verdict(not failed, reasons, comparison.caveats if comparison else ())


def _accuracy_rule(accuracy: float, minimum: float) -> tuple[bool, str]:
    if accuracy >= minimum:
        return True, f"accuracy {accuracy:.3f} is at least min_accuracy {minimum:g}"
    return False, f"accuracy {accuracy:.3f} is below min_accuracy {minimum:g}"


def _champion_rule(comparison: Comparison) -> tuple[bool, str]:
    pictures = "picture" if comparison.gained == 1 else "pictures"
    counts = (
        f"it gets {comparison.gained} {pictures} right that the champion gets wrong, and {comparison.lost} the other "
        f"way round (McNemar {p_text(comparison.p_value)})"
    )
    numbers = f"accuracy {comparison.accuracy:.3f} against the champion's {comparison.champion_accuracy:.3f}"
    if comparison.outcome == "better":
        return True, f"better than the champion by more than chance: {numbers}; {counts}"
    if comparison.outcome == "worse":
        return False, f"worse than the champion by more than chance: {numbers}; {counts}"
    return False, f"not shown to be better than the champion, which therefore stays: {numbers}; {counts}"


def _class_rule(comparison: Comparison, limit: float) -> tuple[bool, str]:
    regressed = comparison.regressed(limit)
    if not regressed:
        return True, f"no class is worse than the champion's by more than max_class_regression {limit:g}"
    named = ", ".join(f"{change.label} (recall {change.before:.2f} to {change.after:.2f})" for change in regressed[:5])
    more = f" and {len(regressed) - 5} more" if len(regressed) > 5 else ""
    classes = "class is" if len(regressed) == 1 else "classes are"
    return False, (
        f"{len(regressed)} {classes} worse than the champion's by more than max_class_regression {limit:g}: "
        f"{named}{more}"
    )


def p_text(p_value: float) -> str:
    """A p-value as it is read: `p = 0.031`, `p < 0.001`."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"
