"""The models of one run side by side: how good, how large, how fast."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.artifacts.classifier import TFLITE
from components.shared.report import Report, bars, notice, percent, table

_LATENCY_RUNS = 20


@dataclass(frozen=True)
class Entry:
    """One model: validation accuracy (0 to 1), bytes of its tflite file, milliseconds a picture, training seconds.

    A model that could not be trained has an `error` and no numbers.
    """

    model: str
    accuracy: float = 0.0
    size: int = 0
    latency: float = 0.0
    seconds: float = 0.0
    images_per_second: float = 0.0
    error: str = ""


def best(entries: Sequence[Entry]) -> Entry:
    """The most accurate; of equally accurate ones the fastest."""
    return max((entry for entry in entries if not entry.error), key=lambda entry: (entry.accuracy, -entry.latency))


def latency(tflite: str) -> float:
    """Milliseconds for one picture on one thread of this machine: the median of 20 runs of LiteRT."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=tflite, num_threads=1)
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()[0]
    interpreter.set_tensor(details["index"], np.full(details["shape"], 128, details["dtype"]))
    interpreter.invoke()
    return 1000 * statistics.median(_timed(interpreter.invoke) for _ in range(_LATENCY_RUNS))


def measure(folder: str, model: str, accuracy: float, seconds: float, images_per_second: float) -> Entry:
    """The entry of the classifier in `folder`."""
    tflite = Path(folder) / TFLITE
    return Entry(model, accuracy, tflite.stat().st_size, latency(str(tflite)), seconds, images_per_second)


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
    """Which model goes on, and what it has before the next."""
    text = f"{winner.model} goes on to the evaluation: {percent(winner.accuracy)} of the validation pictures are right"
    second = next((entry for entry in others if not entry.error), None)
    if second is None:
        return f"{text}."
    more = 100 * (winner.accuracy - second.accuracy)
    if not more:
        return f"{text}, as with {second.model}, and it is faster."
    return f"{text}, {more:.1f} percentage points more than with {second.model}."


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
