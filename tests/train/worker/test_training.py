"""Short real trainings in this process."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from components.artifacts import classifier
from components.artifacts import dataset as datasets
from components.shared import imaging
from components.shared.calibration import softmax
from components.shared.engines import ModelError
from components.shared.errors import PipelineError
from components.train.result import TrainingResult
from components.train.worker import training
from tests.helpers.stripes import LABELS, STORED_SIZE, stripes
from tests.helpers.train_settings import settings as small
from tests.helpers.vectors import assert_vectors_are_those_of_the_model


def train(settings, dataset, folder):
    return training.run(settings, dataset, str(folder / "classifier"), str(folder / "checkpoints"))


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    """A training that learns the stripes, exported."""
    folder = tmp_path_factory.mktemp("trained")
    settings = small(logs=str(folder / "logs"), epochs=12, learning_rate=0.003, checkpoint_every=50, precision="auto")
    return folder, train(settings, dataset, folder), settings


def validation_pictures(dataset):
    examples = list(datasets.read_examples(dataset, "validation"))[:100]
    return [example.encoded for example in examples], np.array([example.label_index for example in examples])


def test_it_learns_and_tells(trained):
    folder, result, settings = trained
    assert result.metrics["validation_accuracy"] > 0.9
    assert [entry["epoch"] for entry in result.history] == list(range(1, 13))
    assert result.history[0]["loss"] > result.history[-1]["loss"]
    assert TrainingResult.load(str(folder / "classifier")) == result


def test_three_forms_give_the_same_answers_on_100_pictures(trained, dataset):
    import keras

    folder = str(trained[0] / "classifier")
    pictures, labels = validation_pictures(dataset)
    lite = classifier.load(folder)
    answers = lite.predict(pictures)
    for other in ("savedmodel", "openvino"):
        assert np.abs(classifier.load(folder, other).predict(pictures) - answers).max() < 1e-4, other
    pixels = np.stack([imaging.model_input(picture, STORED_SIZE) for picture in pictures])
    logits = keras.models.load_model(f"{folder}/model.keras").predict(pixels, verbose=0)
    assert np.abs(softmax(logits / lite.card["temperature"]) - answers).max() < 1e-4
    assert (answers.argmax(axis=1) == labels).mean() > 0.9


def test_every_image_has_the_vector_that_the_server_computes(trained, dataset):
    folder = str(trained[0] / "classifier")
    assert_vectors_are_those_of_the_model(folder, dataset)
    lite, pictures = classifier.load(folder), validation_pictures(dataset)[0][:4]
    assert classifier.load(folder, "savedmodel").look(pictures)[1] == pytest.approx(lite.look(pictures)[1], abs=1e-3)


def test_saved_model_takes_originals_of_any_size(trained):
    """Its pixels are nearly those of components.shared.imaging, which shrinks a large JPEG while decoding it."""
    import tensorflow as tf

    from components.train.worker import export

    folder = str(trained[0] / "classifier")
    originals = [imaging.encode_jpeg(stripes(1, 1, 97, 64).repeat(k, 0).repeat(k, 1), 95) for k in (1, 3)]
    signature = tf.saved_model.load(f"{folder}/1").signatures["serving_default"]
    answer = signature(image_bytes=tf.constant(originals))
    assert answer["labels"].numpy().tolist() == [[label.encode() for label in LABELS]] * 2
    assert answer["probabilities"].numpy().sum(axis=1) == pytest.approx([1, 1], abs=1e-5)
    for picture in originals:
        expected = imaging.model_input(picture, STORED_SIZE).astype(int)
        pixels = export.model_input(tf.constant(picture), STORED_SIZE, expected.shape[0]).numpy()
        assert np.abs(pixels - expected).mean() < 3


def test_model_card(trained):
    folder, result, settings = trained
    card = json.loads((folder / "classifier" / "model_card.json").read_text())
    assert (card["stored_size"], card["input_size"]) == (STORED_SIZE, imaging.input_size(STORED_SIZE))
    assert card["labels"] == list(LABELS) and card["snapshot"] == settings.snapshot
    assert card["metrics"]["validation_accuracy"] == result.metrics["validation_accuracy"]
    counts = {"examples_train": 150, "examples_validation": 101, "examples_test": 20}
    assert card["data"] == {**counts, "parameters": {}}
    assert card["parameters"]["learning_rate"] == 0.003 and card["versions"]["keras"] and card["intended_use"]


def test_events_show_the_training(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained[0] / "logs" / "simple_cnn"), {"tensors": 0, "graph": 1}).Reload()
    tags = events.Tags()
    for tag in ("loss", "accuracy", "learning_rate"):
        assert len(events.Tensors(f"step/{tag}")) == 12 * 10
    for tag in ("images_per_second", "input_wait_share"):
        assert len(events.Tensors(f"step/{tag}")) == 12 * 10 - 1, "the first step is traced, so it has no speed"
    assert [event.step for event in events.Tensors("epoch/validation_accuracy")] == list(range(1, 13))
    assert {"augmented", "validation_confusion"} <= set(tags["tensors"]) and tags["graph"]
    (floors,) = events.Tensors("floors")
    text = floors.tensor_proto.string_val[0].decode()
    assert (
        "| always the most frequent class | 0." in text and "| nearest training image by colours and layout |" in text
    )


def test_finished_training_is_only_exported_again(trained, dataset, capsys):
    folder, result, settings = trained
    again = training.run(settings, dataset, str(folder / "again"), str(folder / "checkpoints"))
    assert again == result
    assert "continuing at step 120" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change, what", [({"seed": 2}, "seed is 1 and not 2"), ({"learning_rate": 0.1}, "learning_rate")]
)
def test_checkpoint_of_another_training_is_refused(trained, dataset, change, what):
    folder, _, settings = trained
    other = dataclasses.replace(settings, **change)
    with pytest.raises(PipelineError, match=f"is of another training: its {what}.*delete it"):
        training.run(other, dataset, str(folder / "other"), str(folder / "checkpoints"))


def test_labels_that_do_not_match_the_checkpoint(trained, dataset, tmp_path):
    folder, _, settings = trained
    content = json.loads(Path(dataset, "dataset.json").read_text())
    content["labels"][0] = "sideways"
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(PipelineError, match='its labels is .*"across".* and not .*"sideways"'):
        training.run(settings, str(tmp_path), str(tmp_path / "out"), str(folder / "checkpoints"))


@pytest.mark.slow
def test_same_seed_same_numbers_and_early_stop(make_settings, dataset, tmp_path):
    settings = make_settings(epochs=12, patience=1, augmentation="strong", learning_rate=0.1)
    first = train(settings, dataset, tmp_path / "a")
    assert len(first.history) < 12
    assert first.metrics["epochs"] - first.metrics["best_epoch"] == 1
    second = train(settings, dataset, tmp_path / "b")
    assert [e["loss"] for e in second.history] == pytest.approx([e["loss"] for e in first.history], rel=1e-3)


def test_loss_that_is_not_finite_stops_and_names_step_and_rate(make_settings, dataset, tmp_path):
    # Weight decay alone multiplies the weights by 1 - 0.01 * 1000 a step.
    settings = make_settings(checkpoint_every=1, epochs=8)
    object.__setattr__(settings, "learning_rate", 1000.0)  # which the parameter's check would refuse
    with pytest.raises(
        PipelineError, match=r"at step \d+, learning rate .*learning_rate below 1000.*checkpoint is kept in"
    ):
        train(settings, dataset, tmp_path)
    with np.load(tmp_path / "checkpoints" / "last.npz") as kept:
        assert all(np.isfinite(kept[name]).all() for name in kept.files if name.startswith("model/"))


def test_gpu_asked_for_and_none_there(make_settings, dataset, tmp_path):
    with pytest.raises(PipelineError, match="gpus=2 was asked for and this machine has 0: set gpus=0"):
        train(make_settings(gpus=2), dataset, tmp_path)


def test_int8_is_measured_and_written_down(make_settings, dataset, tmp_path):
    result = train(make_settings(quantize="int8"), dataset, tmp_path)
    card = json.loads((tmp_path / "classifier" / "model_card.json").read_text())
    assert card["metrics"]["int8_accuracy_loss"] == pytest.approx(
        result.metrics["validation_accuracy"] - card["metrics"]["int8_accuracy"], abs=0.02
    )
    pictures, labels = validation_pictures(dataset)
    loaded = classifier.load(str(tmp_path / "classifier"))
    assert (loaded.predict(pictures).argmax(axis=1) == labels).mean() == pytest.approx(
        card["metrics"]["int8_accuracy"], abs=0.02
    )
    assert (tmp_path / "classifier" / "model.tflite").stat().st_size < 400_000
    with pytest.raises(ModelError, match="is an int8 model: only litert"):
        classifier.load(str(tmp_path / "classifier"), "openvino")


def test_out_of_memory_names_what_to_try(make_settings, dataset, tmp_path, monkeypatch):
    import tensorflow as tf

    from components.train.worker.step import TrainingStep

    def exhausted(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(TrainingStep, "run", exhausted)
    with pytest.raises(PipelineError, match="out of memory with .*batch_size=16 .*try batch_size=8, or image_size=30"):
        train(make_settings(), dataset, tmp_path)
