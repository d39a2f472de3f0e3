import pytest

from cli import preflight
from components.shared.errors import PipelineError
from components.train.choice import SettingsError
from components.train.settings import Settings


def test_unknown_model_lists_the_known_and_the_nearest(make_settings):
    with pytest.raises(SettingsError, match="did you mean mobilenet_v2.*simple_cnn, alexnet, .*convnext_tiny"):
        make_settings(model="mobilenet_v22")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"optimizer": "adam"}, "adamw, sgd"),
        ({"augmentation": "strnog"}, "did you mean strong"),
        ({"balance": "weight"}, "none, weights, sampling"),
        ({"precision": "fp16"}, "auto, float32, bfloat16, float16, onednn_bf16"),
        ({"quantize": "int4"}, "none, int8"),
        ({"epochs": 0}, "at least 1"),
        ({"learning_rate": 0.0}, "above 0"),
        ({"learning_rate": float("nan")}, "above 0"),
        ({"batch_size": 10, "workers": 4}, "4 replicas .* try 8 or 12"),
        ({"batch_size": 2, "workers": 4}, "try 4$"),
        ({"batch_size": 9, "workers": 2, "gpus": 4}, "8 replicas"),
        ({"model": ""}, "name a model"),
        ({"seed": -1}, "seed=-1 is not allowed: it must be between 0 and 4294967295"),
        ({"seed": 2**32}, "between 0 and 4294967295"),
        ({"gpus": 1, "accelerator": ""}, "gpus=1 needs accelerator=NAME"),
        ({"model": "mobilenet,alexnet", "weights": "imagenet"}, "model=alexnet: use weights=none, or one of vgg16"),
    ],
)
def test_value_that_is_not_allowed(make_settings, change, message):
    with pytest.raises(SettingsError, match=message):
        make_settings(**change)


def test_json_round_trip(make_settings):
    settings = make_settings(model="simple_cnn,mobilenet_v2", learning_rate=0.25)
    assert Settings.from_json(settings.to_json()) == settings
    assert settings.models == ("simple_cnn", "mobilenet_v2")
    assert settings.for_model("simple_cnn").models == ("simple_cnn",)


def test_json_with_a_field_too_many(make_settings):
    text = make_settings().to_json().replace('"seed"', '"sead"')
    with pytest.raises(SettingsError, match="sead, seed"):
        Settings.from_json(text)


def test_pictures_too_small_for_a_model_are_refused_before_a_run():
    files = dict.fromkeys(("train_weights", "label_map", "check_previous_dataset", "check_expected_classes"), "")
    values = {**files, "train_gpus": 0, "train_model": "simple_cnn, inception_v3", "fetch_image_size": 64}
    preflight.check({**values, "fetch_image_size": 96})
    with pytest.raises(PipelineError, match="inception_v3 needs pictures of at least 75 .*set image_size=92 or more"):
        preflight.check(values)
