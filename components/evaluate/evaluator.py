"""Judges a classifier on the test split: from the very files that are served, beside the champion, with a verdict."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.artifacts import classifier, hub_card, predictions
from components.evaluate import abstention, fairness, gallery, gate, guessing, metrics, models, page, testset, words
from components.evaluate.champion import resolve
from components.evaluate.findings import Findings
from components.evaluate.gate import Comparison
from components.evaluate.metrics import Analysis
from components.evaluate.settings import Settings
from components.evaluate.testset import TestSet
from components.shared import mlflow
from components.shared.storage import storage

# Kubeflow keeps the confusion matrix as metadata; its store takes 4 MB, and its viewer draws a cell an element.
_MATRIX_CLASSES = 40


@dataclass(frozen=True)
class EvaluationResult:
    """The outcome of the step.

    Attributes:
        labels, confusion_matrix: all classes, or those with most mistakes and one that sums up the others.
        roc_curve: (false positive rates, true positive rates, thresholds), micro-averaged one against the rest.
        is_champion: whether the classifier is the very model that it was to be compared with.
    """

    passed: bool
    labels: list[str]
    confusion_matrix: list[list[int]]
    roc_curve: tuple[list[float], list[float], list[float]]
    findings: Findings
    is_champion: bool = False

    def metrics(self) -> dict[str, float]:
        """Flat numbers for the run's page."""
        found, scores = self.findings, self.findings.analysis.scores
        low, high = found.analysis.intervals["accuracy"]
        values = {"test_accuracy": scores["accuracy"], "test_accuracy_low": low, "test_accuracy_high": high}
        values |= {name: value for name, value in scores.items() if name != "accuracy"}
        values |= {
            "ece_without_temperature": found.analysis.before.ece,
            "saved_model_accuracy": found.saved_model_accuracy,
            "saved_model_agreement": found.agreement,
            "latency_ms": found.latency_ms,
            "model_bytes": found.model_bytes,
            "saved_model_bytes": found.saved_model_bytes,
            "examples_test": len(found.analysis.targets),
            "largest_class_share": found.analysis.majority[1],
            "passed": int(self.passed),
        }
        if found.comparison:
            values["champion_accuracy"] = found.comparison.champion_accuracy
            values["champion_p_value"] = found.comparison.p_value
        if found.abstention:
            values |= found.abstention.metrics()
        return {name: round(value, 6) for name, value in values.items()}

    def log(self, numbers: Any, classification: Any) -> None:
        """Puts the numbers into KFP's Metrics and ClassificationMetrics, which the run's page shows."""
        numbers.metadata.update(self.metrics())
        classification.log_confusion_matrix(self.labels, self.confusion_matrix)
        classification.log_roc_curve(*self.roc_curve)

    def leave_verdict(self, classifier_dir: str, classifier_uri: str) -> None:
        """Writes the verdict, and the card for others with these results, beside the classifier.

        That is into its folder, and to where it will be found afterwards.

        Not if it was compared with itself (a recurring run that trained nothing new, against the model in service):
        such a verdict says only that nothing is to be changed.
        """
        if not self.is_champion:
            for place in dict.fromkeys((classifier_dir, storage.published_uri(classifier_uri))):
                self.findings.verdict.save(place)
                hub_card.write(place, self.findings.card, "test", self.findings.analysis.scores)

    def __str__(self) -> str:
        return f"{words.headline(self.findings)[0]} {words.lead(self.findings)}\n{self.findings.verdict}"


def evaluate_model(
    dataset_dir: str,
    classifier_dir: str,
    report_path: str,
    summary_path: str,
    predictions_dir: str,
    settings: Settings,
    classifier_uri: str = "",
) -> EvaluationResult:
    """Evaluates the classifier in `classifier_dir` on the test split of the data set in `dataset_dir`.

    Writes the HTML report, the Markdown summary, and into `predictions_dir` what components.artifacts.predictions says,
    with where others find the classifier, whose artifact has `classifier_uri` (by default its folder).

    Raises:
        PipelineError: the test split is empty, a model is missing or knows other labels, a record file is damaged.
    """
    test = testset.load(dataset_dir)
    served = models.load(classifier_dir, "litert", test.labels, "the classifier")
    saved = models.load(classifier_dir, "savedmodel", test.labels, "the classifier")
    compared = {"served": served, "saved_model": saved}
    champion = resolve(settings.champion)
    if champion:
        compared["champion"] = models.load_champion(champion, test.labels)
    answers = models.answers(compared, test)
    temperature = float(served.card.get("temperature", 1.0))
    analysis = metrics.analyse(
        answers["served"].probabilities[:, :-1], test.targets, list(test.labels), temperature, _groups(test)
    )
    comparison = _compare(analysis, test, answers, champion, compared["champion"]) if champion else None
    found = _findings(analysis, test, answers, served, classifier_dir, comparison, settings)
    page.write(found, gallery.build(analysis, test, served), report_path)
    Path(summary_path).write_text(words.markdown(found), encoding="utf-8")
    about = {
        "classifier": storage.published_uri(classifier_uri or classifier_dir),
        "versions": [served.digest, saved.digest],
        "accuracy": analysis.scores["accuracy"],
        "snapshot": test.info.snapshot,
        "refused": "" if found.verdict.passed else "; ".join(found.verdict.reasons),
    }
    predictions.write(
        predictions_dir, analysis.labels, test.object_ids, analysis.targets, analysis.probabilities, about
    )
    labels, matrix = metrics.condensed(analysis, _MATRIX_CLASSES)
    itself = bool(champion) and compared["champion"].digest == served.digest
    result = EvaluationResult(found.verdict.passed, labels, matrix, metrics.micro_roc(analysis), found, itself)
    run = mlflow.Run()
    if run.is_on:
        tags = {"verdict": str(found.verdict), "model_uri": str(about["classifier"]), "snapshot": test.info.snapshot}
        run.log(result.metrics(), parameters=asdict(settings), tags=tags)
        run.upload("reports", [report_path])
    return result


def _compare(
    analysis: Analysis, test: TestSet, answers: dict[str, models.Answers], champion: str, model: models.Classifier
) -> Comparison:
    before = answers["champion"].predictions
    labels = fairness.label_caveats(model.labels, test.labels, test.targets, analysis.predictions, before)
    caveats = [*labels, *fairness.caveats(model.card, test.info)]
    return gate.compare(champion, test.targets, analysis.predictions, before, test.labels, caveats)


def _findings(
    analysis: Analysis,
    test: TestSet,
    answers: dict[str, models.Answers],
    served: models.Classifier,
    classifier_dir: str,
    comparison: Comparison | None,
    settings: Settings,
) -> Findings:
    saved = answers["saved_model"].predictions
    guesses = guessing.compare(analysis)
    lite_bytes, saved_bytes = classifier.sizes(classifier_dir)
    return Findings(
        analysis=analysis,
        guessing=guesses,
        slices=metrics.slices(analysis.correct, test.columns()),
        comparison=comparison,
        verdict=gate.judge(settings, analysis.scores["accuracy"], guesses, comparison),
        card=served.card,
        temperature=float(served.card.get("temperature", 1.0)),
        saved_model_accuracy=float((saved == test.targets).mean()),
        agreement=float((saved == analysis.predictions).mean()),
        latency_ms=models.latency(served, test),
        model_bytes=lite_bytes,
        saved_model_bytes=saved_bytes,
        abstention=_abstention(analysis, answers["served"], served, settings.coverage),
    )


def _abstention(
    analysis: Analysis, served: models.Answers, model: models.Classifier, coverage: float
) -> abstention.Abstention | None:
    if model.uncertainty is None or served.unlike is None:
        return None
    rows = served.probabilities[:, :-1]  # as they come: the analysis' sum to 1, those of int8 need not
    return abstention.measure(model.uncertainty, rows, analysis.targets, served.unlike, coverage)


def _groups(test: TestSet) -> np.ndarray:
    return np.array([test.text(i, "group") or test.object_ids[i] for i in range(len(test))])
