"""Everything that was found out about a model: what the report, the summary and the metrics are written from."""

from dataclasses import dataclass

from components.artifacts.verdict import Verdict
from components.evaluate.abstention import Abstention
from components.evaluate.gate import Comparison
from components.evaluate.guessing import Guessing
from components.evaluate.metrics import Analysis, Slice


@dataclass(frozen=True)
class Findings:
    """One evaluation.

    Attributes:
        analysis: of the LiteRT model, which is the one that the server runs.
        guessing: what guessing reaches, and whether the model is better.
        slices: accuracy by metadata column.
        comparison: with the champion, if there is one.
        card: the model card.
        temperature: the calibration temperature inside the model.
        saved_model_accuracy, agreement: of the SavedModel, and the share of images where both answer alike.
        abstention: how it does where it may say that it does not know; None for a model that cannot.
        latency_ms: median milliseconds for one image on one core; model_bytes, saved_model_bytes: sizes on disk.
    """

    analysis: Analysis
    guessing: Guessing
    slices: list[Slice]
    comparison: Comparison | None
    verdict: Verdict
    card: dict
    temperature: float
    saved_model_accuracy: float
    agreement: float
    latency_ms: float
    model_bytes: int
    saved_model_bytes: int
    abstention: Abstention | None = None
