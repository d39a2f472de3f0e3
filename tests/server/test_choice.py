"""Which engine a server runs. OpenVINO's threads do not survive a fork, so all of it is tried in other processes."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from cli import main
from components.artifacts import classifier
from components.serve import local, smoke
from components.server import choice
from tests.helpers import colour_model

# Each case: what is asked for, whether the processor has bfloat16, and what is changed in the module.
CASES = {
    "faster and the same": ["auto", True, {"LEAST_GAIN": 0.0}],
    "the same, not faster": ["auto", True, {"LEAST_GAIN": 1e9}],
    "other answers": ["auto", True, {"LEAST_GAIN": 0.0, "LARGEST_CHANGE": -1.0}],
    "no bfloat16, not faster": ["auto", False, {"LEAST_GAIN": 1e9}],
    "no bfloat16, faster": ["auto", False, {"LEAST_GAIN": 0.0}],
    "asked for, not faster": ["openvino", True, {"LEAST_GAIN": 1e9}],
    "asked for, other answers": ["openvino", True, {"LARGEST_CHANGE": -1.0}],
    "another one": ["litert", True, {}],
}
SCRIPT = """
import importlib.util, json, sys
from components.server import choice
from components.shared import engines
folder, cases = sys.argv[1], json.loads(sys.argv[2])
usual = dict(vars(choice))
for name, (wanted, bf16, changes) in cases.items():
    engines.computes_bf16 = lambda bf16=bf16: bf16
    vars(choice).update({**usual, **changes})
    print(json.dumps([name, choice.choose(folder, wanted)]))
vars(choice).update(usual)
for wanted in ("auto", "openvino"):
    sys.modules["openvino"] = None
    importlib.util.find_spec = lambda name: None
    try:
        print(json.dumps([wanted, choice.choose(folder, wanted)]))
    except engines.ModelError as error:
        print(json.dumps([wanted, str(error)]))
"""


@pytest.fixture
def with_samples(classifier_dir, tmp_path) -> str:
    folder = shutil.copytree(classifier_dir, tmp_path / "model")
    pictures = [colour_model.picture(colour, seed=seed) for colour in colour_model.COLOURS for seed in range(4)]
    classifier.write_samples(str(folder), pictures)
    return str(folder)


def test_what_is_chosen(with_samples):
    command = [sys.executable, "-c", SCRIPT, with_samples, json.dumps(CASES)]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert dict(map(json.loads, found.stdout.splitlines())) == {
        "faster and the same": "openvino-bf16",
        "the same, not faster": "litert",
        "other answers": "litert",
        "no bfloat16, not faster": "litert",
        "no bfloat16, faster": "openvino",
        "asked for, not faster": "openvino-bf16",
        "asked for, other answers": "openvino",
        "another one": "litert",
        "auto": "litert",
        "openvino": "engine openvino is not installed: pip install openvino, or use litert",
    }
    assert "same answers on 12 images" in found.stderr


def test_the_command_line_offers_all_of_them():
    assert tuple(main.ENGINES) == choice.CHOICES


def test_what_counts_as_the_same_answers():
    rows = np.tile(np.float32([0.6, 0.4]), (400, 1))
    assert choice._difference(rows, rows + np.float32([0.009, -0.009])) == ""
    assert "up to 0.011" in choice._difference(rows, rows + np.float32([0.011, -0.011]))
    close = np.tile(np.float32([0.501, 0.499]), (400, 1))
    flipped = close.copy()
    flipped[:2] = flipped[:2, ::-1]
    assert choice._difference(close, flipped) == "", "2 of 400 labels"
    flipped[2] = flipped[2, ::-1]
    assert "of labels" in choice._difference(close, flipped)
    assert choice._difference(rows, rows * np.float32("nan"))


def test_the_server_with_openvino(with_samples):
    """The same answers from the whole server, which says what it runs."""
    images = [colour_model.picture(colour, seed=9) for colour in colour_model.COLOURS]
    expected = classifier.load(with_samples).predict(images)
    with local.running_server(with_samples, "--name", "colours", "--workers", "2", "--engine", "openvino") as url:
        told = smoke.get_json(f"{url}/v2/models/colours", 10)
        answers = [smoke._post(f"{url}/classify", image, 10) for image in images]
    assert told["platform"] in ("openvino", "openvino-bf16")
    for row, answer in zip(expected, answers):
        assert answer["predictions"][0]["label"] == list(colour_model.COLOURS)[row.argmax()]
        assert answer["predictions"][0]["probability"] == pytest.approx(row.max(), abs=0.01)
