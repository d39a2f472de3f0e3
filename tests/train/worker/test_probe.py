"""The regression on frozen features: what it decides, what every form of the model answers, and what comes after."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from components.artifacts import classifier
from components.artifacts import dataset as datasets
from components.shared import imaging
from components.train import models, zoo
from components.train.worker import export, loop, probe, training
from components.train.worker.batches import squeezed
from components.train.worker.features import Features, Sight
from components.train.worker.interruption import Preempted, StopRequest
from components.train.worker.lite import Runner, convert
from tests.helpers.stripes import stripes
from tests.helpers.train_settings import settings as small
from tests.helpers.vectors import assert_vectors_are_those_of_the_model

MODEL = "mobilenet_025"


def probing(weights: str, folder, **changes: object):
    values = {"model": MODEL, "weights": weights, "head": "regression", "logs": str(folder / "logs"), **changes}
    return small(**values)


def train(settings, dataset, folder):
    return training.run(settings, dataset, str(folder / "classifier"), str(folder / "checkpoints"))


def answers(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """In a function, as training computes: called by itself, this network of small images answers nothing but zeros."""
    return tf.function(lambda pixels: model(pixels, training=False))(images.astype(np.float32)).numpy()


@pytest.fixture(scope="module")
def probed(weights, dataset, tmp_path_factory):
    """A run with the defaults: the result, and the folder."""
    folder = tmp_path_factory.mktemp("probed")
    return train(probing(weights, folder, view="whole"), dataset, folder), folder


def test_it_finds_the_classes_and_says_what_it_is_better_than(probed):
    result, folder = probed
    accuracies = {row["name"]: row["accuracy"] for row in result.comparison}
    assert list(accuracies) == [
        "always the most frequent class", "nearest training image by features", "regression on frozen features",
    ]  # fmt: skip
    assert [row["taken"] for row in result.comparison] == [False, False, True]
    assert accuracies["regression on frozen features"] == result.metrics["validation_accuracy"]
    assert accuracies["always the most frequent class"] < 0.3 < result.metrics["validation_accuracy"]
    assert list(result.tried)[:2] == ["last layer", "last layer and stages"]
    assert [entry["phase"] for entry in result.history] == ["probe"] and result.metrics["epochs"] == 0
    card = json.loads((folder / "classifier" / "model_card.json").read_text())
    assert card["view"] == "whole" and card["head"]["view"] == "whole" and card["comparison"] == result.comparison


def test_all_forms_of_the_model_answer_alike(probed, dataset):
    folder = probed[1] / "classifier"
    pictures = [example.encoded for example in datasets.read_examples(dataset, "test")][:8]
    card = json.loads((folder / "model_card.json").read_text())
    lite = classifier.load(str(folder)).predict(pictures)
    saved = classifier.load(str(folder), "savedmodel").predict(pictures)
    model = keras.models.load_model(folder / "model.keras")
    pixels = np.stack([imaging.model_input(picture, card["stored_size"], "whole") for picture in pictures])
    scores = model.predict(pixels.astype(np.float32), verbose=0)
    assert lite == pytest.approx(tf.nn.softmax(scores / card["temperature"]).numpy(), abs=1e-4)
    # TensorFlow's own resizing differs by one level of 255 here and there, to which these random filters are sensitive.
    assert saved == pytest.approx(lite, abs=0.1)
    assert np.isfinite(scores).all() and scores.std() > 0.1


def test_the_vectors_that_the_regression_had_are_kept_and_the_others_computed(probed, dataset):
    assert_vectors_are_those_of_the_model(str(probed[1] / "classifier"), dataset)


@pytest.mark.parametrize("height, width", [(40, 53), (61, 40), (40, 40)])
def test_the_whole_image_is_squeezed_alike(height, width):
    data = imaging.encode_jpeg(stripes(1, 3, height, width), 92)
    expected = imaging.model_input(data, 40, "whole").astype(int)
    assert expected.shape == (32, 32, 3)
    assert np.abs(export.model_input(tf.constant(data), 40, 32, "whole").numpy() - expected).max() <= 1
    read = squeezed(tf.io.decode_jpeg(data, dct_method="INTEGER_ACCURATE"), 32).numpy().astype(int)
    assert np.abs(read - expected).max() <= 1


def test_lite_features_are_those_of_tensorflow():
    network = models.build("mobilenet_v2", 64, 3, pre_trained=True, reading=models.Reading(stages=True, flip=True))
    images = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)
    expected = answers(network.base, images)
    assert Runner(convert(network.base), 2)(images) == pytest.approx(expected, abs=1e-3)
    width, last = expected.shape[1], models.last_width(network.base, zoo.entry("mobilenet_v2").card)
    assert (last, width) == (1280, 1280 + 2 * (24 + 32 + 64 + 96 + 160 + 320))
    # A block is of length 1; the mean of two is shorter.
    assert (np.linalg.norm(expected[:, :last], axis=1) <= 1.0001).all()


@pytest.mark.slow
def test_a_network_read_otherwise_keeps_its_pre_trained_part(weights, dataset, tmp_path):
    from components.train.worker import session

    opened = session.open_session(
        probing(weights, tmp_path), datasets.load(dataset), str(tmp_path), str(tmp_path), StopRequest()
    )
    assert opened.reading == models.Reading(stages=True)
    images = np.random.default_rng(1).integers(0, 256, (2, opened.size, opened.size, 3)).astype(np.float32)
    last = models.last_width(opened.network.base, opened.entry.card)
    plain = opened.reading_as(models.Reading(), "center")
    both = opened.reading_as(models.Reading(flip=True), "center")
    values = answers(opened.network.base, images)[:, :last]
    mirrored = answers(opened.network.base, images[:, :, ::-1])[:, :last]
    assert answers(plain.network.base, images) == pytest.approx(values, abs=1e-5)
    assert answers(both.network.base, images) == pytest.approx((values + mirrored) / 2, abs=1e-5)


@pytest.mark.slow
def test_fine_tuning_that_is_not_clearly_better_is_not_taken(weights, dataset, tmp_path, monkeypatch):
    settings = probing(weights, tmp_path, fine_tune_epochs="1", learning_rate=1e-6, view="center")
    result = train(settings, dataset, tmp_path)
    phases = [entry["phase"] for entry in result.history]
    assert phases == ["probe", "fine_tune"] and result.metrics["best_epoch"] == 0
    assert next(row["name"] for row in result.comparison if row["taken"]) == "regression on frozen features"


@pytest.mark.slow
def test_fine_tuning_that_is_clearly_better_is_taken(weights, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("components.train.worker.export.better", lambda hits, than: True)
    monkeypatch.setattr("components.train.worker.checkpoints.CheckpointManager.start_from", lambda *_: None)
    result = train(probing(weights, tmp_path, fine_tune_epochs="1", view="center"), dataset, tmp_path)
    assert result.metrics["best_epoch"] == 1
    assert [row["name"] for row in result.comparison if row["taken"]] == ["fine-tuned"]


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_head(probed, weights, dataset, tmp_path, monkeypatch):
    settings = probing(weights, tmp_path, view="whole")
    computed = Features.of

    def stopped(self, split, examples, sight=Sight()):
        if split == "validation":
            self._session.stop.requested = True
            raise Preempted("stopped")
        return computed(self, split, examples, sight)

    monkeypatch.setattr(Features, "of", stopped)
    with pytest.raises(Preempted):
        train(settings, dataset, tmp_path)
    assert [path.name.split("-")[1] for path in Path(tmp_path, "checkpoints").glob("features-*")] == ["train"]
    monkeypatch.undo()
    again = train(settings, dataset, tmp_path)
    assert again.metrics == pytest.approx(probed[0].metrics)
    assert not list(Path(tmp_path, "checkpoints").glob("features-*"))


@pytest.mark.parametrize(
    "wanted, examples, seconds, epochs",
    [("auto", 1999, 0.0, 0), ("auto", 2000, 0.01, 8), ("auto", 10_000, 0.1, 0), ("3", 10, 9.0, 3), ("0", 9999, 0.0, 0)],
)
def test_auto_tries_where_there_is_enough_to_learn_from_and_time(weights, tmp_path, wanted, examples, seconds, epochs):
    settings = probing(weights, tmp_path, fine_tune_epochs=wanted)
    assert settings.tuning_epochs(examples, seconds) == epochs
    assert loop.plan(settings, 0) == [] and small().tuning_epochs(10_000, 0.0) == 0


def test_better_means_by_more_than_the_standard_error():
    hits = np.array([True] * 52 + [False] * 48)
    assert not probe.better(hits, hits)
    assert not probe.better(np.roll(hits, 50), hits)
    more = np.array([True] * 60 + [False] * 40)
    assert probe.better(more, hits) and not probe.better(more, hits, errors=3)


def test_the_nearest_training_example_is_by_angle():
    train_features = np.array([[1, 0], [0, 2]], np.float32)
    assert probe.nearest(train_features, np.array([7, 9]), np.array([[5, 1], [1, 5]], np.float32)).tolist() == [7, 9]


@pytest.mark.slow
def test_of_very_many_examples_a_part_decides_and_the_others_are_seen_once(weights, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "DECIDING", 60)
    computed, of = {}, Features.of

    def noted(self, split, examples, sight=Sight()):
        computed.setdefault(sight, {})[split] = len(examples)
        return of(self, split, examples, sight)

    monkeypatch.setattr(Features, "of", noted)
    result = train(probing(weights, tmp_path), dataset, tmp_path)
    everything = datasets.load(dataset).splits
    for sight, splits in computed.items():
        assert splits["train-deciding"] + splits["validation-deciding"] == 60, sight
    complete = [splits for splits in computed.values() if "train" in splits]
    assert [splits["train"] for splits in complete] == [everything["train"].examples] and len(computed) > 1
    assert result.metrics["validation_accuracy"] > 0.5
