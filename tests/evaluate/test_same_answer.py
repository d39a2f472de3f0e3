"""One picture, one answer: evaluation, SavedModel, command line and server."""

import base64
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from components.artifacts import classifier
from components.artifacts.dataset import read_examples
from components.evaluate.evaluator import evaluate_model
from components.evaluate.settings import Settings
from components.serve import local
from components.server.predict import predict_files
from tests.helpers.evaluation_data import LABELS

ROUNDED = 1e-6  # the command line and the API give six digits


@pytest.fixture(scope="module")
def evaluated(colours_dataset, colours_model, tmp_path_factory) -> tuple[list[str], np.ndarray]:
    """The pictures of the test split as files, and what the evaluation kept of the answers to them."""
    folder = tmp_path_factory.mktemp("same")
    outputs = [str(folder / name) for name in ("report", "summary", "predictions")]
    evaluate_model(colours_dataset, colours_model, *outputs, Settings(0.5, True, 0.1, ""))
    files = []
    for example in read_examples(colours_dataset, "test"):
        files.append(str(folder / f"{example.object_id}.jpg"))
        with open(files[-1], "wb") as file:
            file.write(example.encoded)
    rows = parquet.read_table(folder / "predictions" / "predictions.parquet")["probabilities"].to_pylist()
    return files, np.array(rows)


def test_the_command_line_answers_like_the_evaluation(evaluated, colours_model):
    files, expected = evaluated
    answers = predict_files(classifier.load(colours_model), files)
    found = [[dict(answer.ranking)[label] for label in LABELS] for answer in answers]
    np.testing.assert_allclose(found, expected, atol=ROUNDED)
    command = [sys.executable, "pipeline.py", "predict", files[0], "--model", colours_model, "--json"]
    printed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    shown = {entry["label"]: entry["probability"] for entry in printed["predictions"]}
    np.testing.assert_allclose([shown[label] for label in LABELS], expected[0], atol=ROUNDED)


def test_the_server_answers_like_the_evaluation(evaluated, colours_model):
    files, expected = evaluated
    instances = [{"b64": base64.b64encode(Path(file).read_bytes()).decode()} for file in files]
    with local.running_server(colours_model, "--name", "colours", "--workers", "1") as url:
        body = json.dumps({"instances": instances}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{url}/v1/models/colours:predict", body, headers)
        with urllib.request.urlopen(request) as answer:
            rows = [entry["probabilities"] for entry in json.load(answer)["predictions"]]
        picture = Path(files[1]).read_bytes()
        with urllib.request.urlopen(urllib.request.Request(f"{url}/classify", picture)) as answer:
            single = {entry["label"]: entry["probability"] for entry in json.load(answer)["predictions"]}
    np.testing.assert_allclose(rows, expected, atol=ROUNDED)
    np.testing.assert_allclose([single[label] for label in LABELS], expected[1], atol=ROUNDED)


def test_the_savedmodel_answers_like_the_evaluation(evaluated, colours_model):
    files, expected = evaluated
    pictures = [Path(file).read_bytes() for file in files]
    found = classifier.load(colours_model, "savedmodel").predict(pictures)
    np.testing.assert_allclose(found, expected, atol=1e-3)
