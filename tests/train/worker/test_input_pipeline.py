import json
from pathlib import Path

import numpy as np
import pytest

from components.artifacts import dataset as datasets
from components.shared import imaging
from components.shared.errors import PipelineError
from components.train.worker import batches, input_pipeline
from components.train.worker.input_pipeline import Order
from tests.helpers.stripes import LABELS, STORED_SIZE, example, write_dataset

SIDE = imaging.input_size(STORED_SIZE)


@pytest.fixture(scope="module")
def train(dataset, tmp_path_factory):
    return input_pipeline.load(datasets.load(dataset), "train", str(tmp_path_factory.mktemp("copies")))


def take(data, steps):
    return [tuple(part.numpy() for part in element) for element in data.take(steps)]


@pytest.mark.parametrize("count, batch_size", [(150, 16), (7, 16), (32, 16), (1, 1)])
def test_every_example_counts_once_an_epoch(count, batch_size):
    order = Order(np.zeros(count, np.int32), batch_size, seed=3)
    seen = [order.batch(step) for step in range(2 * order.steps)]
    for epoch in (seen[: order.steps], seen[order.steps :]):
        counted = np.concatenate([chosen[counts] for chosen, counts in epoch])
        assert sorted(counted) == list(range(count))
    assert all(len(chosen) == batch_size for chosen, _ in seen)


def test_order_changes_with_epoch_and_seed_and_nothing_else():
    labels = np.zeros(100, np.int32)
    first = Order(labels, 10, seed=1)
    assert not np.array_equal(first.epoch(0), first.epoch(1))
    assert not np.array_equal(first.epoch(0), Order(labels, 10, seed=2).epoch(0))
    # A resumed run asks for a later step at once, and then for the ones after it.
    later = Order(labels, 10, seed=1)
    assert np.array_equal(later.batch(25)[0], [first.batch(step) for step in range(26)][-1][0])


def test_balanced_order_draws_classes_equally():
    labels = np.array([0] * 90 + [1] * 8 + [2] * 2, np.int32)
    drawn = labels[Order(labels, 10, seed=1, balanced=True).epoch(0)]
    assert len(drawn) == 100
    assert np.bincount(drawn).min() >= 30


def test_class_weights_have_mean_one_over_the_examples():
    labels = np.array([0] * 90 + [1] * 10, np.int32)
    weights = input_pipeline.class_weights(labels, 3)
    assert weights[labels].mean() == pytest.approx(1)
    assert weights[1] / weights[0] == pytest.approx(9)


@pytest.mark.parametrize("workers, gpus, augmentation", [(2, 1, "none"), (3, 1, "light"), (2, 3, "light")])
def test_workers_share_the_batches_of_one(train, workers, gpus, augmentation):
    """More workers than record files, too. (MixUp takes a neighbour in the replica's part: strong may differ.)"""
    order = Order(train.labels, 12, seed=5)
    geometry = batches.Geometry(SIDE, len(LABELS), augmentation, 5)
    replicas = workers * gpus
    whole = take(batches.images(train, order, batches.Share(0, 1, 1), geometry, first_step=11), 3)
    shares = [
        take(batches.images(train, order, batches.Share(w * gpus, gpus, replicas), geometry, 11), 3 * gpus)
        for w in range(workers)
    ]
    for step, (images, targets, weights) in enumerate(whole):
        parts = [shares[w][step * gpus + g] for w in range(workers) for g in range(gpus)]
        assert np.array_equal(np.concatenate([part[2] for part in parts]), weights)
        assert np.array_equal(np.concatenate([part[0] for part in parts]), images)
        assert np.array_equal(np.concatenate([part[1] for part in parts]), targets)


def test_pictures_are_those_that_evaluation_and_serving_see(train):
    order = Order(train.labels, 150)
    ((images, targets, weights),) = take(
        batches.images(train, order, batches.Share(0, 1, 1), batches.Geometry(SIDE, len(LABELS))), 1
    )
    expected = [imaging.model_input(train.encoded(i), STORED_SIZE) for i in range(150)]
    assert np.abs(images.astype(int) - np.stack(expected).astype(int)).max() <= 1
    assert np.array_equal(targets.argmax(axis=1), train.labels)
    assert weights.sum() == pytest.approx(1)


def test_last_batch_is_filled_up_with_weightless_examples(train):
    order = Order(train.labels, 64, seed=1)
    elements = take(batches.images(train, order, batches.Share(0, 1, 1), batches.Geometry(SIDE, 4)), 3)
    assert [np.count_nonzero(weights) for _, _, weights in elements] == [64, 64, 22]
    assert [weights.sum() for _, _, weights in elements] == pytest.approx([1, 1, 1])


def test_features_take_the_place_of_pictures(train):
    order = Order(train.labels, 16, seed=1)
    values = np.arange(150, dtype=np.float32)[:, None]
    data = batches.features(values, order, batches.Share(0, 1, 1), train.labels, 4, first_step=2)
    ((rows, targets, _),) = take(data, 1)
    assert np.array_equal(rows[:, 0].astype(int), order.batch(2)[0])
    assert np.array_equal(targets.argmax(axis=1), train.labels[order.batch(2)[0]])


def test_excluded_objects_are_skipped(tmp_path):
    excluded = ("train-3", "train-4", "validation-0")
    folder = write_dataset(tmp_path, {"train": 12, "validation": 4}, excluded=excluded)
    examples = input_pipeline.load(datasets.load(folder), "train", str(tmp_path))
    kept = [example("train", i).encoded for i in range(12) if i not in (3, 4)]
    assert sorted(examples.encoded(i) for i in range(len(examples))) == sorted(kept)


def test_remote_record_files_are_copied_once(dataset, tmp_path):
    content = json.loads(Path(dataset, "dataset.json").read_text())
    for split in content["splits"].values():
        for file in split["files"]:
            file["uri"] = "file://" + file["uri"]
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    examples = input_pipeline.load(datasets.load(str(tmp_path)), "validation", str(tmp_path / "copies"))
    assert len(examples) == 101


@pytest.mark.parametrize("damage, message", [("cut", "cut off"), ("flip", "does not match"), ("gone", "missing")])
def test_damaged_record_file_is_named(tmp_path, damage, message):
    folder = write_dataset(tmp_path, {"train": 6, "validation": 2})
    file = tmp_path / "train-00001-of-00002.tfrecord"
    content = bytearray(file.read_bytes())
    if damage == "gone":
        file.unlink()
    else:
        content[500] ^= 1
        file.write_bytes(content[:600] if damage == "cut" else content)
    with pytest.raises(PipelineError, match=f"train-00001-of-00002.tfrecord.*{message}"):
        input_pipeline.load(datasets.load(folder), "train", str(tmp_path))


def test_empty_split_says_what_to_do(tmp_path):
    folder = write_dataset(tmp_path, {"train": 6, "validation": 0})
    with pytest.raises(PipelineError, match="no examples in its validation split"):
        input_pipeline.load(datasets.load(folder), "validation", str(tmp_path))
