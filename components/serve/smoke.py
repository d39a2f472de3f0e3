"""Asks a running server about pictures of the test split, over HTTP, before people do."""

import collections
import itertools
import json
import math
import statistics
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

from components.shared import dataset
from components.shared.dataset import Example
from components.shared.errors import PipelineError

PICTURES = 32
# Among so many examples the pictures are chosen, so that the whole split need not be read from the store.
LOOK_AT = 1000
SECONDS = 30
# A proxy of the surroundings does not know this machine or the cluster's own names.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class SmokeTestError(PipelineError):
    """The server does not answer, or its answers are not those of this model."""


@dataclass(frozen=True)
class SmokeResult:
    """How many `pictures` were sent, how many labels were right, and the median time of an answer."""

    pictures: int
    right: int
    median_milliseconds: float

    def __str__(self) -> str:
        return f"{self.right} of {self.pictures} test pictures right, {self.median_milliseconds:.0f} ms each"


def choose_pictures(dataset_dir: str, number: int = PICTURES) -> list[Example]:
    """Up to `number` examples of the test split, as many of each class as there are.

    Raises:
        PipelineError: the test split has none.
    """
    by_class = collections.defaultdict(list)
    for example in itertools.islice(dataset.read_examples(dataset_dir, "test"), LOOK_AT):
        by_class[example.label_index].append(example)
    turns = itertools.zip_longest(*(by_class[label] for label in sorted(by_class)))
    chosen = [example for turn in turns for example in turn if example is not None][:number]
    if not chosen:
        raise PipelineError("the test split has no picture to try the server with: raise test_fraction")
    return chosen


def smoke_test(url: str, examples: list[Example], version: str, accuracy: float | None) -> SmokeResult:
    """Sends each example's picture to `url`/classify and judges the answers.

    Args:
        version: Digest that the answers must name: the model that was meant is the one in service.
        accuracy: What the model reached in training; the server may be worse only by chance. None: not judged.

    Raises:
        SmokeTestError: an answer is missing, is not 200, names another version; or too many labels are wrong.
    """
    right, seconds = 0, []
    for example in examples:
        started = time.perf_counter()
        answer = _classify(url, example)
        seconds.append(time.perf_counter() - started)
        if not version.startswith(answer["version"]):
            raise SmokeTestError(f"{url} answers with version {answer['version']}, not {version[:12]}")
        right += answer["predictions"][0]["label"] == example.label
    needed = fewest_right(len(examples), accuracy)
    if right < needed:
        raise SmokeTestError(
            f"{url} is right for {right} of {len(examples)} test pictures, at least {needed} were expected "
            f"of a model with accuracy {accuracy:.2f}: its input is not prepared as in training"
        )
    return SmokeResult(len(examples), right, statistics.median(seconds) * 1000)


def fewest_right(pictures: int, accuracy: float | None) -> int:
    """How many must be right so that chance (four standard deviations) does not explain a worse result."""
    if accuracy is None:
        return 0
    deviation = math.sqrt(pictures * accuracy * (1 - accuracy))
    return max(0, math.floor(pictures * accuracy - 4 * deviation - 1))


def get_json(url: str, seconds: float = SECONDS) -> dict:
    """GET `url`. Raises OSError."""
    with _OPENER.open(url, timeout=seconds) as response:
        return json.load(response)


def _classify(url: str, example: Example) -> dict:
    request = urllib.request.Request(
        f"{url}/classify?top=1", data=example.encoded, headers={"Content-Type": "application/octet-stream"}
    )
    try:
        with _OPENER.open(request, timeout=SECONDS) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        text = error.read(300).decode("utf-8", "replace")
        raise SmokeTestError(f"{url}/classify answers {error.code} for {example.object_id}: {text}") from error
    except (OSError, ValueError) as error:
        raise SmokeTestError(f"{url}/classify does not answer for {example.object_id}: {error}") from error
