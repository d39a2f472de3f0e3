"""What a server answers where the model does not know, if it is asked for that: in all of its protocols."""

import base64
import json

import pytest
import requests

from tests.helpers.colour_model import mixed, picture, striped

RED, MIXED, STRIPED = picture("red"), mixed(), striped()
ASKED = "coverage=0.95"


def encoded(*pictures: bytes) -> list[str]:
    return [base64.b64encode(each).decode() for each in pictures]


@pytest.mark.parametrize(
    "image, label, reason, unlike",
    [(RED, "red", None, False), (MIXED, None, "uncertain", False), (STRIPED, None, "uncertain", True)],
)
def test_classify(server, image, label, reason, unlike):
    found = requests.post(f"{server}/classify?{ASKED}", data=image).json()
    assert (found["label"], found["reason"], found["unlike"]) == (label, reason, unlike)
    plain = requests.post(f"{server}/classify", data=image).json()
    assert set(plain) == {"model", "version", "predictions"} and plain["predictions"] == found["predictions"]
    if reason and not unlike:
        assert found["label_set"] == [each["label"] for each in found["predictions"]][: len(found["label_set"])]


def test_v1(server):
    url = f"{server}/v1/models/colours:predict"
    instances = [{"b64": text} for text in encoded(RED, MIXED)]
    plain = requests.post(url, json={"instances": instances}).json()["predictions"]
    assert set(plain[1]) == {"label", "probability", "probabilities", "labels"} and plain[1]["label"]
    found = requests.post(f"{url}?{ASKED}", json={"instances": instances}).json()["predictions"]
    assert [row["label"] for row in found] == ["red", None] and found[1]["reason"] == "uncertain"
    columns = requests.post(f"{url}?{ASKED}", json={"inputs": instances}).json()["outputs"]
    assert columns["label"] == ["red", None] and columns["label_set"][0] == ["red"]
    assert set(requests.post(url, json={"inputs": instances}).json()["outputs"]) == {"probabilities", "labels"}


def test_v2(server):
    def ask(**parameters) -> dict:
        tensor = {"name": "images", "datatype": "BYTES", "shape": [2], "data": encoded(RED, STRIPED)}
        content = {"inputs": [tensor], **({"parameters": parameters} if parameters else {})}
        outputs = requests.post(f"{server}/v2/models/colours/infer", json=content).json()["outputs"]
        return {output["name"]: output["data"] for output in outputs}

    assert set(ask()) == {"probabilities", "label", "labels"}
    found = ask(coverage=0.95)
    assert found["label"] == ["red", ""] and found["reason"] == ["", "uncertain"]
    assert json.loads(found["label_set"][0]) == ["red"]


@pytest.mark.parametrize("coverage", ["0", "1", "nine", "", "nan", "-0.5"])
def test_an_impossible_coverage_is_one_line(server, coverage):
    answer = requests.post(f"{server}/classify?coverage={coverage}", data=RED)
    assert answer.status_code == 400 and answer.json()["reason"] == "bad_coverage"
