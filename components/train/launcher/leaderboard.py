"""The models of one run side by side: how good, how large, how fast."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.artifacts.classifier import TFLITE
from components.shared.report import Report, bars, notice, percent, table
from components.train.result import TrainingResult

_LATENCY_RUNS = 20


@dataclass(frozen=True)
class Entry:
    """One model: validation accuracy (0 to 1), bytes of its tflite file, milliseconds per image, training seconds.

    The accuracy is of `examples` images, 0 where that is not known. A model that could not be trained has an `error`
    and no numbers.
    """

    model: str
    accuracy: float = 0.0
    size: int = 0
    latency: float = 0.0
    seconds: float = 0.0
    images_per_second: float = 0.0
    error: str = ""
    examples: int = 0


def best(entries: Sequence[Entry]) -> Entry:
    """The most accurate; of equally accurate ones the fastest."""
    return max((entry for entry in entries if not entry.error), key=lambda entry: (entry.accuracy, -entry.latency))


def latency(tflite: str) -> float:
    """Milliseconds for one image on one thread of this machine: the median of 20 runs of LiteRT."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=tflite, num_threads=1)
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()[0]
    interpreter.set_tensor(details["index"], np.full(details["shape"], 128, details["dtype"]))
    interpreter.invoke()
    return 1000 * statistics.median(_timed(interpreter.invoke) for _ in range(_LATENCY_RUNS))


def measure(folder: str, result: TrainingResult) -> Entry:
    """The entry of the classifier in `folder`, whose training came to `result`."""
    tflite = Path(folder) / TFLITE
    return Entry(
        model=result.model,
        accuracy=result.metrics["validation_accuracy"],
        size=tflite.stat().st_size,
        latency=latency(str(tflite)),
        seconds=result.seconds,
        images_per_second=result.images_per_second,
        examples=result.comparison[0]["examples"] if result.comparison else 0,
    )


def save(entries: Sequence[Entry], path: str) -> None:
    """Writes the page; the models are ranked by accuracy."""
    ranked = sorted(entries, key=lambda entry: (bool(entry.error), -entry.accuracy, entry.latency))
    winner = best(entries)
    report = Report(
        "Leaderboard",
        _lead(winner, ranked[1:]),
        {
            "models": len(entries),
            "best": winner.model,
            "validation accuracy": percent(winner.accuracy),
            "latency": f"{winner.latency:.1f} ms",
        },
    )
    report.section(
        "Models",
        *[notice(f"{entry.model} could not be trained: {entry.error}", "fail") for entry in ranked if entry.error],
        table(
            ["model", "validation accuracy", "size", "latency", "training", "images/s"],
            [_row(entry) for entry in ranked if not entry.error],
        ),
        intro=f"Size: of model.tflite. Latency: a picture on one CPU thread, the median of {_LATENCY_RUNS} runs.",
    )
    if len(entries) > 1:
        report.section(
            "Accuracy",
            bars(
                [(entry.model, entry.accuracy, percent(entry.accuracy)) for entry in ranked if not entry.error], whole=1
            ),
        )
    report.save(path)


def _lead(winner: Entry, others: Sequence[Entry]) -> str:
    """Which model to take and what it costs, and which one answers faster without being clearly worse."""
    text = (
        f"{winner.model} goes on to the evaluation: {percent(winner.accuracy)} of the validation pictures are right, "
        f"at {_cost(winner)}"
    )
    trained = [entry for entry in others if not entry.error]
    if not trained:
        return f"{text}."
    error = math.sqrt(winner.accuracy * (1 - winner.accuracy) / max(winner.examples, 1)) if winner.examples else 0.0
    as_good = [entry for entry in trained if entry.accuracy >= winner.accuracy - error]
    faster = min(as_good, key=lambda entry: entry.latency, default=winner)
    if faster.latency < winner.latency:
        return (
            f"{text}. If answers have to be quick take {faster.model}: with {percent(faster.accuracy)} it is not "
            f"clearly worse, and needs {_cost(faster)}."
        )
    more = 100 * (winner.accuracy - trained[0].accuracy)
    if not more:
        return f"{text}, as with {trained[0].model}, and it is faster."
    return f"{text}, {more:.1f} percentage points more than with {trained[0].model} at {_cost(trained[0])}."


def _cost(entry: Entry) -> str:
    return f"{entry.latency:.1f} ms per picture and {entry.size / 1e6:.1f} MB"


def _row(entry: Entry) -> list[object]:
    return [
        entry.model,
        percent(entry.accuracy),
        f"{entry.size / 1e6:.2f} MB",
        f"{entry.latency:.2f} ms",
        f"{entry.seconds:,.0f} s",
        round(entry.images_per_second),
    ]


def _timed(call) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
