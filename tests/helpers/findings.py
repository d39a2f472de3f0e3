"""Findings about a model that was never built: answers of a chosen skill, for what is written about them."""

import numpy as np

from components.evaluate import gate, guessing, metrics
from components.evaluate.findings import Findings
from components.evaluate.settings import Settings


def probabilities(n: int, classes: int, skill: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [n, classes] and targets [n] of a model that knows something."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, classes, n)
    logits = random.normal(size=(n, classes))
    logits[np.arange(n), targets] += skill
    values = np.exp(logits)
    return values / values.sum(axis=1, keepdims=True), targets


def analysis(n: int = 400, classes: int = 7, skill: float = 2.0, seed: int = 0, **options) -> metrics.Analysis:
    """Of a model with classes `class 0`, `class 1`, ..."""
    values, targets = probabilities(n, classes, skill, seed)
    return metrics.analyse(values, targets, [f"class {i}" for i in range(classes)], **options)


def findings(found: metrics.Analysis, minimum: float = 0.0, columns: dict[str, list[str]] | None = None) -> Findings:
    """Everything else as it might be."""
    guesses = guessing.compare(found)
    return Findings(
        analysis=found,
        guessing=guesses,
        slices=metrics.slices(found.correct, columns or {}),
        comparison=None,
        verdict=gate.judge(Settings(minimum, False, 0.1, ""), found.scores["accuracy"], guesses, None),
        card={"name": "museum-classifier", "created": "2026-01-02", "snapshot": "ab" * 32},
        temperature=1.5,
        saved_model_accuracy=found.scores["accuracy"],
        agreement=1.0,
        latency_ms=3.21,
        model_bytes=2_500_000,
        saved_model_bytes=5_000_000,
    )
