import numpy as np
import pytest
import tensorflow as tf

from components.train import augment


@pytest.fixture(scope="module")
def draws():
    return tf.stack([augment.draw(7, tf.constant(key, tf.int64)) for key in range(64)])


@pytest.fixture(scope="module")
def images():
    return tf.constant(np.random.default_rng(1).integers(0, 256, [64, 24, 24, 3]), tf.uint8)


def test_draws_depend_on_seed_and_key_alone():
    key = tf.constant(3, tf.int64)
    assert np.array_equal(augment.draw(7, key), augment.draw(7, key))
    assert not np.array_equal(augment.draw(7, key), augment.draw(8, key))
    assert not np.array_equal(augment.draw(7, key), augment.draw(7, key + 1))


@pytest.mark.parametrize("size", [(32, 32), (32, 40), (33, 32), (40, 47)])
def test_windows_lie_inside_the_picture_and_reach_its_edges(draws, size):
    windows = np.stack([augment.window(tf.constant(size), 32, row) for row in draws])
    assert np.all(windows[:, :2] >= 0) and np.all(windows[:, 2:] == 32)
    assert np.array_equal((windows[:, :2] + 32).max(axis=0), size) and not windows[:, :2].min(axis=0).any()
    resized = np.stack([augment.resized_window(tf.constant(size), row) for row in draws])
    assert np.all(resized[:, :2] >= 0) and np.all(resized[:, :2] + resized[:, 2:] <= size)
    areas = resized[:, 2] * resized[:, 3] / min(size) ** 2
    assert areas.min() > 0.3 and areas.max() <= 1.35


def test_flip_mirrors_about_half(images, draws):
    flipped = np.stack([augment.flip(image, row) for image, row in zip(images, draws, strict=True)])
    same = (flipped == images.numpy()).all(axis=(1, 2, 3))
    mirrored = (flipped == images.numpy()[:, :, ::-1]).all(axis=(1, 2, 3))
    assert np.all(same ^ mirrored)
    assert 20 < mirrored.sum() < 44


def test_colour_without_strength_changes_nothing(images, draws):
    floats = tf.cast(images, tf.float32)
    assert np.abs(augment.colour(floats, draws, 0.0) - floats).max() < 1e-3
    changed = augment.colour(floats, draws, 0.3)
    means = tf.reduce_mean(changed, axis=[1, 2, 3]) / tf.reduce_mean(floats, axis=[1, 2, 3])
    assert 0.69 < np.min(means) < 0.85 and 1.15 < np.max(means) < 1.31


def test_projection_of_nothing_is_the_picture(images, draws):
    floats = tf.cast(images, tf.float32)
    assert np.abs(augment.rand_augment(floats, draws, chance=0.0) - floats).max() < 1e-2


def test_mix_keeps_targets_and_pixels_in_proportion(draws):
    levels = tf.range(64, dtype=tf.float32)
    flat = tf.ones([64, 24, 24, 3]) * levels[:, None, None, None]
    mixed, targets = augment.mix(flat, tf.eye(64), draws)
    targets = targets.numpy()
    assert targets.sum(axis=1) == pytest.approx(np.ones(64), abs=1e-5)
    assert np.all(np.diag(targets) >= 0.45)
    untouched = np.diag(targets) == 1
    assert 18 < untouched.sum() < 46
    # The mean of the pixels is mixed as the targets are.
    assert tf.reduce_mean(mixed, axis=[1, 2, 3]).numpy() == pytest.approx(targets @ levels.numpy(), abs=1e-3)


def test_strong_gives_pictures_of_the_same_kind(images, draws):
    changed, targets = augment.strong(images, tf.eye(64), draws)
    assert changed.dtype == tf.uint8 and changed.shape == images.shape
    assert np.mean(changed.numpy() != images.numpy()) > 0.5
