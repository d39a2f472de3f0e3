"""What the server counts: Prometheus metrics, and the newest predictions as a histogram, over all worker processes."""

import mmap
import threading
import time

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from components.artifacts import predictions
from components.artifacts.predictions import CONFIDENCE_BINS

WINDOW = 10_000
_ENTRY = np.dtype([("time", "f8"), ("label", "i4"), ("confidence", "f4")])


class Window:
    """The newest predictions of all workers, in memory that the workers share because they are forked after it.

    Each worker writes to a ring of its own, so there is no lock that a killed worker could keep. A worker that
    replaces a killed one goes on with the same ring.
    """

    def __init__(self, workers: int, size: int = WINDOW) -> None:
        self.slots, self.length = workers, max(1, size // workers)
        self._size = size
        rings = self.slots * self.length * _ENTRY.itemsize
        memory = mmap.mmap(-1, rings + 8 * self.slots)
        self._rings = np.frombuffer(memory, _ENTRY, self.slots * self.length).reshape(self.slots, self.length)
        self._written = np.frombuffer(memory, np.int64, self.slots, offset=rings)
        self._lock = threading.Lock()

    def add(self, slot: int, labels: np.ndarray, confidences: np.ndarray) -> None:
        """Notes predictions: class indices and probabilities, both [n]."""
        with self._lock:
            for label, confidence in zip(labels, confidences):
                self._rings[slot, self._written[slot] % self.length] = (time.time(), label, confidence)
                self._written[slot] += 1

    def histogram(self, labels: list[str]) -> dict:
        """`{"since": seconds or None, "predictions": {label: count}, "confidence": [counts], "window": n}`.

        Of this server alone: of one pod, where there are several.
        """
        parts = [ring[: min(int(count), self.length)] for ring, count in zip(self._rings, self._written)]
        entries = np.concatenate(parts)
        entries = entries[np.argsort(entries["time"], kind="stable")][-self._size :]
        since = float(entries["time"][0]) if len(entries) else None
        return {"since": since, **predictions.histogram(labels, entries["label"], entries["confidence"])}


class Monitor:
    """Counts for one worker process; what it reports covers all of them."""

    def __init__(self, window: Window, slot: int, labels: list[str], version: str, engine: str) -> None:
        self._window, self._slot, self._labels, self._version = window, slot, labels, version
        registry = CollectorRegistry()
        self.requests = Counter(
            "classifier_requests", "Requests by route and status.", ["route", "status"], registry=registry
        )
        self.latency = Histogram(
            "classifier_request_seconds",
            "Time from the request's headers to its answer.",
            ["route"],
            buckets=(0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
            registry=registry,
        )
        self.predictions = Counter(
            "classifier_predictions", "Pictures classified, by likeliest label.", ["label"], registry=registry
        )
        self.confidence = Histogram(
            "classifier_confidence",
            "Probability of the likeliest label.",
            buckets=[edge / CONFIDENCE_BINS for edge in range(1, CONFIDENCE_BINS + 1)],
            registry=registry,
        )
        information = Gauge(
            "classifier_model_info",
            "The model in service, and what runs it.",
            ["version", "engine"],
            registry=registry,
            multiprocess_mode="max",
        )
        information.labels(version, engine).set(1)

    def count(self, rows: np.ndarray) -> None:
        """Counts predictions: probabilities, [n, classes]."""
        best, confidences = rows.argmax(axis=1), rows.max(axis=1)
        self._window.add(self._slot, best, confidences)
        for label, confidence in zip(best, confidences):
            self.predictions.labels(self._labels[label]).inc()
            self.confidence.observe(float(confidence))

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Counts one request; `route` is the rule, not the path, so that strangers cannot add series."""
        self.requests.labels(route, str(status)).inc()
        self.latency.labels(route).observe(seconds)

    def histogram(self) -> dict:
        """The newest predictions, and the `version` that made them: see Window.histogram."""
        return {"version": self._version, **self._window.histogram(self._labels)}

    @staticmethod
    def exposition() -> bytes:
        """All workers' metrics in Prometheus' text format."""
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        return generate_latest(registry)
