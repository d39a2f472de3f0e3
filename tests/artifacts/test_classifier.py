"""The classifier's folder: both engines, one answer; and every way in which a folder can be wrong."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from components.artifacts import classifier, uncertainty
from components.shared import imaging
from components.shared.engines import ModelError
from tests.helpers import colour_model
from tests.helpers.colour_model import picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return colour_model.build_once(tmp_path_factory)


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "classifier"))


def test_both_engines_give_the_answer_of_the_formula(folder):
    images = [picture(colour, seed=seed) for seed, colour in enumerate(["red", "green", "blue", "red"])]
    litert = classifier.load(folder).predict(images)
    saved = classifier.load(folder, "savedmodel").predict(images)
    stored = classifier.read_card(folder)["stored_size"]
    means = np.stack([imaging.model_input(image, stored).mean(axis=(0, 1)) / 255 for image in images])
    expected = np.exp(10 * means) / np.exp(10 * means).sum(axis=1, keepdims=True)
    assert litert.dtype == np.float32 and litert.shape == (4, 3)
    np.testing.assert_allclose(litert, expected, atol=1e-4)
    np.testing.assert_allclose(saved, litert, atol=0.01)
    assert [classifier.load(folder).labels[row.argmax()] for row in litert] == ["red", "green", "blue", "red"]


def test_a_folder_whose_name_is_a_pattern_to_tensorflow(folder, tmp_path):
    """As below a clone or a root with such a name; a neighbour that the pattern fits is not loaded instead."""
    other = Path(shutil.copytree(folder, tmp_path / "xb cd"))
    (other / "1" / "variables" / "variables.index").write_bytes(b"damaged")
    copy = shutil.copytree(folder, tmp_path / r"[xy]b c\d" / "run[1] #%41 {a,b}'é$*?")
    for engine in ("litert", "savedmodel"):
        assert classifier.load(str(copy), engine).predict([picture("red")]).argmax() == 0


def test_the_check_predicts(folder):
    for engine in ("litert", "savedmodel"):
        classifier.load(folder, engine).check()


def test_nothing_predicted_for_nothing(folder):
    assert classifier.load(folder).predict([]).shape == (0, 3)


def test_a_model_of_an_earlier_release_gives_no_features_and_no_decision(copy):
    (copy / uncertainty.FILE_NAME).unlink()
    for engine, width in (("litert", 6), ("savedmodel", 0)):
        model = classifier.load(str(copy), engine)
        rows, features = model.look([picture("red"), picture("blue")])
        assert rows.argmax(axis=1).tolist() == [0, 2] and features.shape == (2, width)
        with pytest.raises(ModelError, match="train it again"):
            model.decide(rows, features)


def test_it_says_what_it_does_not_know(folder):
    model = classifier.load(folder)
    found = model.decide(*model.look([picture("red"), colour_model.mixed(), colour_model.striped()]), coverage=0.95)
    assert [decision.label for decision in found] == ["red", None, None]
    assert [decision.unlike for decision in found] == [False, False, True]
    assert len(found[1].labels) > 1


def test_its_doubt_is_a_part_of_the_model(copy):
    before = classifier.digest(str(copy))
    (copy / uncertainty.FILE_NAME).write_bytes(b"damaged")
    assert classifier.digest(str(copy)) != before
    with pytest.raises(ModelError, match=r"uncertainty.npz.*train the model again"):
        classifier.load(str(copy))


def test_a_broken_picture_says_why(folder):
    with pytest.raises(imaging.ImageError):
        classifier.load(folder).predict([picture(), b"no picture"])


def test_digest_changes_with_any_file(copy):
    before = classifier.digest(str(copy))
    card = json.loads((copy / "model_card.json").read_text())
    (copy / "model_card.json").write_text(json.dumps(card | {"name": "another"}))
    assert classifier.digest(str(copy)) != before
    assert classifier.load(str(copy)).digest == classifier.digest(str(copy))


def test_download_copies_what_the_engine_needs(folder, tmp_path):
    classifier.download(folder, str(tmp_path / "litert"))
    assert sorted(file.name for file in (tmp_path / "litert").iterdir()) == [
        "labels.txt", "model.tflite", "model_card.json", "uncertainty.npz",
    ]  # fmt: skip
    classifier.download(folder, str(tmp_path / "saved"), "savedmodel")
    assert (tmp_path / "saved/1/saved_model.pb").exists() and not (tmp_path / "saved/model.tflite").exists()
    assert classifier.digest(str(tmp_path / "litert")) == classifier.digest(folder)


def test_no_model(copy):
    (copy / "model.tflite").unlink()
    with pytest.raises(ModelError, match="no model in .*expected model.tflite, found 1, labels.txt"):
        classifier.load(str(copy))


def test_two_models(copy):
    shutil.copy(copy / "model.tflite", copy / "old.tflite")
    with pytest.raises(ModelError, match=r"2 models in .*model.tflite, old.tflite"):
        classifier.load(str(copy))
    shutil.copytree(copy / "1", copy / "2")
    with pytest.raises(ModelError, match="2 models"):
        classifier.load(str(copy), "savedmodel")


@pytest.mark.parametrize("name", ["labels.txt", "model_card.json"])
def test_missing_file(copy, name):
    (copy / name).unlink()
    with pytest.raises(ModelError, match=f"has model.tflite but no {name}"):
        classifier.load(str(copy))


def test_parts_that_do_not_fit(copy):
    (copy / "labels.txt").write_text("red\ngreen\n")
    with pytest.raises(ModelError, match="different labels"):
        classifier.load(str(copy))
    card = json.loads((copy / "model_card.json").read_text())
    (copy / "model_card.json").write_text(json.dumps(card | {"labels": ["red", "green"]}))
    with pytest.raises(ModelError, match="3 classes, but labels.txt has 2"):
        classifier.load(str(copy))
    with pytest.raises(ModelError, match="3 classes, but labels.txt has 2"):
        classifier.load(str(copy), "savedmodel")


def test_size_that_does_not_fit(copy):
    card = json.loads((copy / "model_card.json").read_text())
    (copy / "model_card.json").write_text(json.dumps(card | {"stored_size": 256}))
    with pytest.raises(ModelError, match="takes 1 x 48 x 48 x 3, but stored_size 256"):
        classifier.load(str(copy))


@pytest.mark.parametrize("text", ["no json", "[]", "{}"])
def test_card_that_is_none(copy, text):
    (copy / "model_card.json").write_text(text)
    with pytest.raises(ModelError, match="model_card.json"):
        classifier.load(str(copy))


def test_file_that_is_no_model(copy):
    (copy / "model.tflite").write_bytes(b"not a flat buffer")
    with pytest.raises(ModelError, match="no LiteRT model"):
        classifier.load(str(copy))


def test_missing_folder_and_unknown_engine(tmp_path, folder):
    with pytest.raises(ModelError, match="there is no folder"):
        classifier.load(str(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match="litert, openvino"):
        classifier.load(folder, "onnx")
