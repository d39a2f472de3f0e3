import pytest

from components.train.models import smallest_image_size


@pytest.mark.parametrize(
    "change, image_size, expected",
    [
        ({"batch_size": 32}, 256, "try batch_size=16, or image_size=192, or more memory"),
        ({"batch_size": 1}, 256, "try image_size=192, or more memory"),
        ({"batch_size": 12, "workers": 4}, None, "try batch_size=4, or a smaller image_size, or more memory"),
        # What is advised must not be refused in its turn: inception_v3 takes no picture below 75 pixels.
        ({"batch_size": 32, "model": "inception_v3"}, 100, "try batch_size=16, or image_size=92, or more memory"),
        ({"batch_size": 32, "model": "inception_v3"}, 92, "try batch_size=16, or more memory"),
    ],
)
def test_advice_is_possible(make_settings, change, image_size, expected):
    assert make_settings(**change).less_memory(image_size) == expected


def test_smallest_image_size_of_a_pre_trained_model_counts_that_pictures_are_enlarged():
    assert smallest_image_size("inception_v3", False) == 92
    assert smallest_image_size("inception_v3", True) == 55


@pytest.mark.parametrize("batch_size, workers, expected", [(8, 1, 8), (256, 1, 64), (6, 3, 6), (96, 3, 66), (1, 1, 1)])
def test_evaluation_takes_no_more_at_once_than_training(make_settings, batch_size, workers, expected):
    assert make_settings(batch_size=batch_size, workers=workers).evaluation_batch == expected
