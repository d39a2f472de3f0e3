import numpy as np
import pytest
import tensorflow as tf

from components.train.worker import augment


@pytest.fixture(scope="module")
def draws():
    return augment.draw(7, np.arange(64))


@pytest.fixture(scope="module")
def images():
    return tf.constant(np.random.default_rng(1).integers(0, 256, [64, 24, 24, 3]), tf.uint8)


def test_draws_depend_on_seed_and_key_alone():
    together = augment.draw(7, np.array([3, 5, 2**40]))
    assert np.array_equal(augment.draw(7, np.array([5]))[0], together[1])
    assert not np.isin(augment.draw(8, np.array([3])), together).any()
    assert len(np.unique(together)) == together.size


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_draws_are_uniform_and_independent(seed):
    draws = augment.draw(seed, np.arange(20_000))
    assert draws.min() >= 0 and draws.max() < 1
    assert np.abs(draws.mean(axis=0) - 0.5).max() < 0.01 and np.abs(draws.var(axis=0) - 1 / 12).max() < 0.004
    others = (draws[1:], draws[:-1]), (draws, augment.draw((seed + 1) % 2**32, np.arange(20_000)))
    for these, those in others:  # with the next example, and with the next seed
        assert np.abs([np.corrcoef(a, b)[0, 1] for a, b in zip(these.T, those.T)]).max() < 0.04
    assert np.abs(np.corrcoef(draws.T) - np.eye(augment.DRAWS)).max() < 0.04


@pytest.mark.parametrize("size", [(32, 32), (32, 40), (33, 32), (40, 47)])
def test_windows_lie_inside_the_picture_and_reach_its_edges(draws, size):
    sizes = np.array([size] * len(draws), np.int32)
    windows = augment.windows(sizes, 32, draws)
    assert np.all(windows[:, :2] >= 0) and np.all(windows[:, 2:] == 32)
    assert np.array_equal((windows[:, :2] + 32).max(axis=0), size) and not windows[:, :2].min(axis=0).any()
    resized = augment.resized_windows(sizes, draws)
    assert np.all(resized[:, :2] >= 0) and np.all(resized[:, :2] + resized[:, 2:] <= size)
    areas = resized[:, 2] * resized[:, 3] / min(size) ** 2
    assert areas.min() > 0.3 and areas.max() <= 1.35


def test_about_half_is_mirrored(draws):
    assert 20 < augment.mirrored(draws).sum() < 44


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
