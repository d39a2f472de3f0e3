"""Which engine a server runs: the fastest whose answers are those of LiteRT, on this machine and with this model."""

import importlib.util
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from components.artifacts import classifier
from components.shared import engines
from components.shared.engines import ModelError

AUTO = "auto"
CHOICES = (AUTO, engines.LITERT, engines.OPENVINO, engines.SAVED_MODEL)
# What another engine may change: the likeliest label of one image in 200, and no probability by more.
SAME_LABELS, LARGEST_CHANGE = 0.995, 0.01
# It needs more memory and starts later: by less than that it is not worth it.
LEAST_GAIN = 1.15


def choose(directory: str, wanted: str) -> str:
    """One of components.shared.engines.ENGINES for the local classifier, said on stderr where there was a choice.

    `auto` is OpenVINO if it is installed, and on the images that come with the model it is faster than LiteRT and
    answers the same: in bfloat16 where the processor computes that, or in float32; else LiteRT. `openvino` is OpenVINO
    in either case, in float32 where bfloat16 is not the same.

    Raises:
        ModelError: `wanted` cannot load the model.
    """
    if wanted not in (AUTO, engines.OPENVINO):
        return wanted
    # In a process of its own: the workers are forked from this one, and OpenVINO's threads do not survive that.
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        engine, reason = pool.submit(_tried, directory, wanted).result()
    if reason:
        print(f"engine: {engine} ({reason})", file=sys.stderr, flush=True)
    return engine


def _tried(directory: str, wanted: str) -> tuple[str, str]:
    """(engine, why)"""
    fallback = engines.LITERT if wanted == AUTO else engines.OPENVINO
    try:
        # OpenVINO is not loaded where it will not be used.
        images = classifier.read_samples(directory) if importlib.util.find_spec("openvino") else []
        if not images:
            return _checked(directory, fallback), ""
        candidates = [*([engines.OPENVINO_BF16] if engines.computes_bf16() else []), engines.OPENVINO]
        expected, seconds = _answers(directory, engines.LITERT, images)
        reasons = []
        for engine in candidates:
            found, quicker = _answers(directory, engine, images)
            gain, difference = seconds / quicker, _difference(expected, found)
            if not difference and (wanted != AUTO or gain >= LEAST_GAIN):
                return engine, f"{gain:.1f} times as fast as LiteRT, same answers on {len(images)} images"
            reasons.append(f"{engine} {difference or f'is {gain:.2f} times as fast'}")
    except ModelError as error:
        if wanted != AUTO:
            raise
        return engines.LITERT, str(error)
    return _checked(directory, fallback), "; ".join(reasons)


def _checked(directory: str, engine: str) -> str:
    classifier.load(directory, engine).check()
    return engine


def _answers(directory: str, engine: str, images: list[bytes]) -> tuple[np.ndarray, float]:
    """Probabilities [n, classes] of one engine, and its median seconds per image."""
    model = classifier.load(directory, engine)
    model.check()
    rows, times = [], []
    for image in images:
        # Of the process, not of this thread: OpenVINO computes in threads of its own.
        started = time.process_time()
        rows.append(model.predict([image])[0])
        times.append(time.process_time() - started)
    return np.stack(rows), float(np.median(times))


def _difference(expected: np.ndarray, found: np.ndarray) -> str:
    """Why answers are not the same; empty if they are."""
    same, change = float((expected.argmax(1) == found.argmax(1)).mean()), float(abs(expected - found).max())
    if same < SAME_LABELS or not change <= LARGEST_CHANGE:
        return f"changes {1 - same:.1%} of labels, probabilities by up to {change:.3f}"
    return ""
