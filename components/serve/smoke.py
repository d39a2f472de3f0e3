"""Asks a running server about images of the test split, over HTTP, before people do.

The evaluation has run the same files over the same images, so the server must answer just what the evaluation did.
"""

import collections
import http.client
import itertools
import json
import statistics
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

from components.artifacts import dataset, predictions
from components.artifacts.dataset import Example
from components.artifacts.service import SMOKE_HEADER
from components.serve.deployment import SmokeResult
from components.shared.errors import PipelineError
from components.shared.retries import attempts

PICTURES = 32
# Among so many examples the images are chosen, so that the whole split need not be read from the store.
LOOK_AT = 1000
# Processors round differently; an image that is resized or normalized in another way moves by far more.
TOLERANCE = 0.02
SECONDS = 30
# A name of the cluster is known everywhere, and leads to the right pods, some seconds after it was applied.
APPEARS_SECONDS = 120
IN_A_ROW = 8
# Longer than an answer takes: packets to a Service that has no pods yet may simply be lost.
APPEARS_TIMEOUT = 10
# Behind the Service stand pods with traffic: one whose queue is full is no failure.
BUSY_TRIES, BUSY_SECONDS = 10, 1
# A proxy of the surroundings does not know this machine or the cluster's own names.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class SmokeTestError(PipelineError):
    """The server does not answer, or its answers are not those of this model."""


@dataclass(frozen=True)
class Question:
    """An image, and what the evaluation found in it: the probability of each label."""

    example: Example
    expected: dict[str, float]


def choose_questions(dataset_dir: str, predictions_dir: str, number: int = PICTURES) -> list[Question]:
    """Up to `number` images of the test split, as many of each class as there are, with the evaluation's answers.

    Raises:
        PipelineError: the test split has none, or the evaluation was of another data set.
    """
    by_class = collections.defaultdict(list)
    for example in itertools.islice(dataset.read_examples(dataset_dir, "test"), LOOK_AT):
        by_class[example.label_index].append(example)
    turns = itertools.zip_longest(*(by_class[label] for label in sorted(by_class)))
    chosen = [example for turn in turns for example in turn if example is not None][:number]
    if not chosen:
        raise PipelineError("the test split has no picture to try the server with: raise test_fraction")
    labels = dataset.load(dataset_dir).labels
    filters = [("object_id", "in", [example.object_id for example in chosen])]
    found = predictions.read(predictions_dir, ["object_id", "probabilities"], filters)
    rows = {row["object_id"]: row["probabilities"] for row in found}
    missing = [example.object_id for example in chosen if len(rows.get(example.object_id, ())) != len(labels)]
    if missing:
        raise PipelineError(f"the evaluation has no answer for test picture {missing[0]}: evaluate this data set first")
    return [Question(example, dict(zip(labels, rows[example.object_id]))) for example in chosen]


def try_service(
    url: str, questions: list[Question], version: str, seconds: float = APPEARS_SECONDS, pause: float = 0.25
) -> SmokeResult:
    """`smoke_test`, as soon as `url` leads to `version`. Raises SmokeTestError."""
    wait_for_version(url, questions[0].example, version, seconds, pause)
    return smoke_test(url, questions, version)


def wait_for_version(url: str, example: Example, version: str, seconds: float, pause: float = 0.25) -> None:
    """Returns when several answers in a row name `version`: DNS, endpoints and proxies learn of a change one by one.

    Raises:
        SmokeTestError: they do not, in so many `seconds`; the message says what came instead.
    """
    deadline, row = time.monotonic() + seconds, 0
    while row < IN_A_ROW:
        try:
            answer = _classify(url, example, APPEARS_TIMEOUT)
            problem = "" if _names(answer, version) else _other_version(url, answer, version)
        except SmokeTestError as error:
            problem = str(error)
        row = 0 if problem else row + 1
        if problem and time.monotonic() > deadline:
            raise SmokeTestError(f"{problem} (waited {seconds:.0f} s)")
        time.sleep(pause)


def smoke_test(url: str, questions: list[Question], version: str) -> SmokeResult:
    """Sends each image to `url`/classify and compares the answer with that of the evaluation.

    Args:
        version: digest that the answers must name: the model that was meant is the one in service.

    Raises:
        SmokeTestError: an answer is missing, is not 200, names another version, or is not that of the evaluation.
    """
    right, seconds, wrong = 0, [], []
    for question in questions:
        started = time.perf_counter()
        answer = _classify(url, question.example)
        seconds.append(time.perf_counter() - started)
        if not _names(answer, version):
            raise SmokeTestError(_other_version(url, answer, version))
        label, probability = answer["label"], answer["probability"]
        right += label == question.example.label
        if not _agrees(question.expected, label, probability):
            likeliest = max(question.expected, key=question.expected.__getitem__)
            wrong.append(
                f"{question.example.object_id} is {label} ({probability:.2f}) to the server "
                f"and {likeliest} ({question.expected[likeliest]:.2f}) to the evaluation"
            )
    if wrong:
        number = f"{len(wrong)} of {len(questions)} test pictures"
        raise SmokeTestError(f"{url} answers otherwise than the evaluation for {number}: {wrong[0]}")
    return SmokeResult(len(questions), right, statistics.median(seconds) * 1000)


def get_json(url: str, seconds: float = SECONDS) -> dict:
    """GET `url`. Raises OSError."""
    with _OPENER.open(url, timeout=seconds) as response:
        return json.load(response)


def _agrees(expected: dict[str, float], label: str, probability: float) -> bool:
    """Whether it is the likeliest label, or one just as likely, and as likely as expected."""
    known = expected.get(label, -1.0)
    return abs(known - probability) <= TOLERANCE and known >= max(expected.values()) - TOLERANCE


def _names(answer: dict, version: str) -> bool:
    return bool(answer["version"]) and version.startswith(answer["version"])


def _other_version(url: str, answer: dict, version: str) -> str:
    return f"{url} answers with version {answer['version'] or '(none)'}, not {version[:12]}"


def _classify(url: str, example: Example, seconds: float = SECONDS) -> dict:
    """The server's answer, which has a version and a likeliest label. Raises SmokeTestError."""
    where = f"{url}/classify"
    try:
        answer = _post(f"{where}?top=1", example.encoded, seconds)
        first = answer["predictions"][0]
        return {
            "version": str(answer["version"]),
            "label": str(first["label"]),
            "probability": float(first["probability"]),
        }
    except urllib.error.HTTPError as error:
        text = error.read(300).decode("utf-8", "replace")
        raise SmokeTestError(f"{where} answers {error.code} for {example.object_id}: {text}") from error
    except (OSError, http.client.HTTPException) as error:
        raise SmokeTestError(f"{where} does not answer for {example.object_id}: {error!r}") from error
    except (ValueError, LookupError, TypeError) as error:
        raise SmokeTestError(f"{where} is no classifier: its answer has no version or label ({error!r})") from error


def _post(url: str, picture: bytes, seconds: float) -> dict:
    headers = {"Content-Type": "application/octet-stream", SMOKE_HEADER: "1"}
    request = urllib.request.Request(url, data=picture, headers=headers)
    for last in attempts([BUSY_SECONDS] * (BUSY_TRIES - 1)):
        try:
            with _OPENER.open(request, timeout=seconds) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            if error.code != 503 or last:
                raise
    raise AssertionError("unreachable")
