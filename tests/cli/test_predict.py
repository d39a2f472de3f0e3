"""`pipeline.py predict`: what an argument may be, and what stands in the terminal."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from cli.main import main
from tests.helpers import colour_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def pictures(tmp_path) -> Path:
    """red.jpg, deep/blue (a PNG without an ending), and two files that are no pictures."""
    folder = tmp_path / "pictures [1]"
    (folder / "deep").mkdir(parents=True)
    Image.new("RGB", (64, 48), "red").save(folder / "red.jpg")
    Image.new("RGB", (64, 48), "blue").save(folder / "deep" / "blue", "PNG")
    (folder / "notes.txt").write_text("x")
    (folder / "deep" / "empty.jpg").write_bytes(b"")
    (folder / ".hidden.jpg").write_bytes(b"")
    return folder


def predict(capfd, model: str, *arguments: str) -> tuple[int, list[dict], str]:
    status = main(["predict", "--model", model, "--json", *map(str, arguments)])
    told = capfd.readouterr()
    return status, [json.loads(line) for line in told.out.splitlines()], told.err


def names(answers: list[dict]) -> list[str]:
    return [Path(answer["image"]).name for answer in answers]


def test_a_folder_means_the_pictures_below_it(capfd, classifier_dir, pictures):
    status, answers, error = predict(capfd, classifier_dir, pictures)
    assert status == 0 and names(answers) == ["red.jpg", "blue"]
    assert f"note: {pictures}: 2 other files are left out" in error


def test_a_quoted_pattern(capfd, classifier_dir, pictures, monkeypatch):
    monkeypatch.chdir(pictures)
    assert names(predict(capfd, classifier_dir, "*.jpg")[1]) == ["red.jpg"]
    assert names(predict(capfd, classifier_dir, "**/bl*")[1]) == ["blue"]
    assert names(predict(capfd, classifier_dir, pictures / "red.jpg")[1]) == ["red.jpg"]  # its folder has a [


def test_standard_input(capfd, classifier_dir, pictures, monkeypatch):
    class Input:
        buffer = io.BytesIO((pictures / "red.jpg").read_bytes())

        def isatty(self):
            return False

    monkeypatch.setattr(sys, "stdin", Input())
    status, (answer,), _ = predict(capfd, classifier_dir, "-")
    assert status == 0 and answer["image"] == "-"
    assert answer["predictions"] == predict(capfd, classifier_dir, pictures / "red.jpg")[1][0]["predictions"]


@pytest.mark.parametrize(
    "argument, told",
    [
        ("absent/*.jpg", "absent/*.jpg: no file matches"),
        ("nothing", "nothing: there is no picture in this folder"),
    ],
)
def test_nothing_found_is_one_line(capfd, classifier_dir, tmp_path, monkeypatch, argument, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nothing").mkdir()
    status, answers, error = predict(capfd, classifier_dir, argument)
    assert status == 2 and not answers and error == f"error: {told}\n"


def test_what_never_ends_is_not_read_to_its_end(capfd, classifier_dir):
    status, (answer,), _ = predict(capfd, classifier_dir, "/dev/zero")
    assert status == 1 and "more than 50 MB" in answer["error"]


def test_the_engine_is_quiet(capfd, classifier_dir, pictures):
    assert predict(capfd, classifier_dir, pictures / "red.jpg")[2] == ""


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii"])
def test_terminals_without_unicode(classifier_dir, pictures, tmp_path, encoding):
    odd = shutil.copy(pictures / "red.jpg", tmp_path / "Ōmi 近江.jpg")
    model = Path(shutil.copytree(classifier_dir, tmp_path / "model"))
    card = json.loads((model / "model_card.json").read_text()) | {"labels": ["Čech", "▸", "blå"]}
    (model / "model_card.json").write_text(json.dumps(card))
    (model / "labels.txt").write_text("Čech\n▸\nblå\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    line = [sys.executable, str(ROOT / "pipeline.py"), "predict", "--model", str(model), str(odd)]
    done = subprocess.run(line, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.decode(encoding)
    assert "?mi ??.jpg" in printed and "####" in printed and "█" not in printed


def test_with_a_coverage_it_says_one_label_or_none(capfd, classifier_dir, tmp_path):
    pictures = {"red": colour_model.picture("red"), "mixed": colour_model.mixed(), "striped": colour_model.striped()}
    for name, data in pictures.items():
        (tmp_path / f"{name}.jpg").write_bytes(data)
    status, answers, _ = predict(capfd, classifier_dir, *sorted(tmp_path.glob("*.jpg")), "--coverage", "0.95")
    mixed, red, striped = answers
    assert status == 0 and (red["label"], red["reason"]) == ("red", None)
    assert (mixed["label"], mixed["reason"], mixed["unlike"]) == (None, "uncertain", False)
    assert striped["label"] is None and striped["unlike"]
    assert main(["predict", "--model", classifier_dir, "--coverage", "0.95", str(tmp_path / "striped.jpg")]) == 0
    assert "uncertain: unlike all that the model learned from" in capfd.readouterr().out


def test_an_impossible_coverage_is_one_line(capfd, classifier_dir):
    assert main(["predict", "--model", classifier_dir, "--coverage", "90", "nothing.jpg"]) == 2
    assert capfd.readouterr().err == "error: coverage=90.0 is not allowed: use a number from 0.01 to 0.999\n"
