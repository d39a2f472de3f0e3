import base64
import json
import subprocess
import sys
import urllib.request

import numpy as np
import pytest

from components.artifacts import classifier, predictions
from components.artifacts.service import SMOKE_HEADER
from components.evaluate import drift
from components.serve import local
from components.shared.errors import PipelineError
from tests.fakes.web_server import reply, serving
from tests.helpers.colour_model import picture
from tests.helpers.evaluation_data import LABELS


def histogram(counts: dict[str, int], confidence: float = 0.9) -> dict:
    indexes = np.repeat(np.arange(len(counts)), list(counts.values()))
    found = predictions.histogram(tuple(counts), indexes, np.full(len(indexes), confidence))
    return found | {"since": 1_700_000_000.0, "version": VERSION[:12]}


VERSION = "ab" * 32
THEN = histogram({"red": 400, "green": 300, "blue": 300}) | {"versions": ["cd" * 32, VERSION]}


def test_the_same_mixture_is_no_drift():
    report = drift.compare("http://service", THEN, histogram({"red": 82, "green": 60, "blue": 58}))
    assert report.due is False
    assert [shift.standing for shift in report.shifts] == ["none", "none"]
    assert "no drift that calls for retraining" in str(report)


def test_another_mixture_of_classes_is_drift():
    report = drift.compare("http://service", THEN, histogram({"red": 20, "green": 60, "blue": 320}))
    assert report.due is True
    assert report.shifts[0].standing == "major"
    assert report.movers[0] == ("blue", 0.3, 0.8)
    assert "400 predictions since 2023-11-14 22:13:20 UTC" in str(report) and "retraining is due" in str(report)


def test_a_less_sure_model_is_drift_even_if_the_mixture_stays():
    report = drift.compare("http://service", THEN, histogram({"red": 80, "green": 60, "blue": 60}, confidence=0.5))
    assert report.due is True
    assert [shift.standing for shift in report.shifts] == ["none", "major"]


def test_few_predictions_say_nothing():
    report = drift.compare("http://service", THEN, histogram({"red": 0, "green": 0, "blue": 50}))
    assert report.due is None
    assert "too few to tell: at least 100 are needed" in str(report)
    nothing = drift.compare("http://service", THEN, histogram(dict.fromkeys(LABELS, 0)) | {"since": None})
    assert nothing.due is None and str(nothing).startswith("0 predictions since its start")


def test_a_large_index_that_chance_explains_is_no_shift():
    """Forty classes and a hundred pictures: two samples of one mixture differ by a large index."""
    random = np.random.default_rng(0)
    labels = tuple(f"class {i}" for i in range(40))
    parts = [predictions.histogram(labels, random.integers(0, 40, n), np.full(n, 0.9)) for n in (200, 120)]
    report = drift.compare("http://service", parts[0] | {"versions": [VERSION]}, parts[1] | {"version": VERSION})
    assert report.shifts[0].psi > drift.MAJOR
    assert report.shifts[0].standing == "none" and report.due is False


def test_another_model_is_no_drift_but_an_error():
    """The same labels and the same counts: only the version tells that the reference is not this model's."""
    message = "http://service serves 0000, but the reference is of cdcdcdcdcdcd or abababababab"
    with pytest.raises(PipelineError, match=message):
        drift.compare("http://service", THEN, THEN | {"version": "0000"})
    with pytest.raises(PipelineError, match="the reference has no 'versions'"):
        drift.compare("http://service", histogram({"red": 1}), THEN)


def test_the_pods_of_a_service_are_added_up():
    parts = [histogram({"red": 80, "green": 20, "blue": 0}), histogram({"red": 0, "green": 40, "blue": 60})]
    parts[1] |= {"since": 1_600_000_000.0}
    total = drift.total(dict(zip(("http://a", "http://b"), parts)))
    assert total["predictions"] == {"red": 80, "green": 60, "blue": 60}
    assert total["window"] == sum(total["confidence"]) == 200 and total["since"] == 1_600_000_000.0
    # Each pod by itself is far off, together they are like the test split.
    assert drift.compare("both", THEN, total).due is False
    assert drift.compare("one", THEN, parts[1]).due is True
    with pytest.raises(PipelineError, match="http://a serves abababababab and http://b other: ask one version"):
        drift.total({"http://a": parts[0], "http://b": parts[1] | {"version": "other"}})


def ask(url: str, colours: list[str], **headers: str) -> None:
    instances = [{"b64": base64.b64encode(picture(colour, seed=i)).decode()} for i, colour in enumerate(colours)]
    body = json.dumps({"instances": instances}).encode()
    headers |= {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/models/colours:predict", body, headers)
    with urllib.request.urlopen(request) as response:
        assert response.status == 200


@pytest.fixture
def reference(tmp_path, colours_model) -> str:
    """What the evaluation leaves: a test split with as many red as green as blue pictures, and a sure model."""
    found = predictions.histogram(tuple(LABELS), np.repeat(np.arange(3), 100), np.full(300, 0.997))
    (tmp_path / predictions.REFERENCE).write_text(json.dumps(found | {"versions": [classifier.digest(colours_model)]}))
    return str(tmp_path)


def test_a_running_server_first_without_drift_then_with(colours_model, reference):
    with local.running_server(colours_model, "--name", "colours", "--workers", "2") as url:
        assert drift.check([url], reference).due is None
        ask(url, ["blue"] * 100, **{SMOKE_HEADER: "1"})
        assert drift.check([url], reference).window == 0, "pictures of the smoke test are no traffic"
        ask(url, LABELS * 40)
        before = drift.check([url], reference)
        assert before.window >= 120 and before.due is False, str(before)
        ask(url, ["blue"] * 200)
        after = drift.check([f"{url}/v1/models/colours"], f"{reference}/{predictions.REFERENCE}")
        assert after.due is True and after.movers[0][0] == "blue", str(after)
        command = [sys.executable, "pipeline.py", "drift", "--service", url, f"{url}/v1/models/colours"]
        command += ["--reference", reference]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1 and "retraining is due" in done.stdout, done
        assert f"{2 * after.window} predictions" in done.stdout, "two addresses, though of one server"


@pytest.mark.parametrize(
    "answers, reason",
    [
        ({}, "answers 404: is it a server of this project"),
        ({"/v1/models": reply(body=b"<html>")}, "cannot ask"),
        ({"/v1/models": reply(body=b'{"models": ["m"]}'), "/v1/models/m/histogram": reply(body=b"{}")}, "has no"),
    ],
)
def test_a_server_that_is_not_ours(reference, answers, reason):
    with serving(answers) as url, pytest.raises(PipelineError, match=reason):
        drift.check([url], reference)


@pytest.mark.parametrize(
    "service, folder, reason",
    [
        ("http://127.0.0.1:9", "", "cannot ask http://127.0.0.1:9/v1/models: .*; is the service running"),
        ("museum-classifier", "", "is not the address of a service"),
        ("http://127.0.0.1:9", "elsewhere", "cannot read .*elsewhere/reference.json"),
    ],
)
def test_bad_input_is_one_clear_line(reference, service, folder, reason):
    with pytest.raises(PipelineError, match=reason) as raised:
        drift.check([service], folder or reference)
    assert "\n" not in str(raised.value)
