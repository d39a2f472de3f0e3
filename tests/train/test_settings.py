import pytest

import pipeline
from cli import parameters
from components import checks
from components.shared.errors import PipelineError
from components.shared.parameters import ParameterError
from components.train.settings import Settings


def test_unknown_model_lists_the_known_and_the_nearest(make_settings):
    with pytest.raises(ParameterError, match="did you mean mobilenet_v2.*simple_cnn, alexnet, .*convnext_tiny"):
        make_settings(model="mobilenet_v22")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"optimizer": "adam"}, "adamw, sgd"),
        ({"augmentation": "strnog"}, "did you mean strong"),
        ({"balance": "weight"}, "none, weights, sampling"),
        ({"precision": "fp16"}, "auto, float32, bfloat16, float16, onednn_bf16"),
        ({"quantize": "int4"}, "none, int8"),
        ({"epochs": 0}, "epochs=0 is not allowed: use a whole number from 1 to 100000"),
        ({"learning_rate": 0.0}, "use a number from 1e-08 to 10"),
        ({"learning_rate": float("nan")}, "learning_rate=nan is not allowed"),
        ({"learning_rate": 1000.0}, "learning_rate=1000.0 is not allowed: use a number from 1e-08 to 10"),
        ({"batch_size": 100_000}, "batch_size=100000 is not allowed: use a whole number from 1 to 4096"),
        ({"batch_size": 10, "workers": 4}, "4 replicas .* use 8 or 12"),
        ({"batch_size": 2, "workers": 4}, "use 4$"),
        ({"fine_tune_epochs": "3"}, "with weights=none there is nothing to fine-tune; use 0, or weights=imagenet"),
        ({"model": "mobilenet,vgg16", "weights": "s3://a/b.h5"}, "one file does not fit 2 models; name one model"),
        ({"gpus": 1, "precision": "onednn_bf16"}, "it is for CPUs, and gpus=1; use auto or bfloat16"),
        ({"gpus": 1, "accelerator": "gpu"}, "accelerator=gpu is not allowed: gpus=1 needs its name"),
        ({"gpus": 10**6}, "whole number from 0 to 64"),
        ({"patience": 10**400}, "patience=1000.* is not allowed: use a whole number from 0 to 9007199254740992"),
        ({"batch_size": 9, "workers": 2, "gpus": 4}, "8 replicas"),
        ({"model": ""}, "name a model"),
        ({"seed": -1}, "seed=-1 is not allowed: use a whole number from 0 to 4294967295"),
        ({"seed": 2**32}, "from 0 to 4294967295"),
        ({"gpus": 1, "accelerator": ""}, "gpus=1 needs its name, such as nvidia.com/gpu"),
        ({"model": "mobilenet,alexnet", "weights": "imagenet"}, "alexnet has none of ImageNet; use weights=none"),
    ],
)
def test_value_that_is_not_allowed(make_settings, change, message):
    with pytest.raises(ParameterError, match=message):
        make_settings(**change)


def test_json_round_trip(make_settings):
    settings = make_settings(model="simple_cnn,mobilenet_v2", learning_rate=0.25)
    assert Settings.from_json(settings.to_json()) == settings
    assert settings.models == ("simple_cnn", "mobilenet_v2")
    assert settings.for_model("simple_cnn").models == ("simple_cnn",)


def test_json_with_a_field_too_many(make_settings):
    text = make_settings().to_json().replace('"seed"', '"sead"')
    with pytest.raises(ParameterError, match="sead, seed"):
        Settings.from_json(text)


def test_pictures_too_small_for_a_model_are_refused_before_a_run():
    declared = parameters.declared(pipeline.pipeline.pipeline_func)
    both = "model=simple_cnn, inception_v3"
    checks.check(parameters.parse([both, "image_size=96"], declared), on_cluster=False)
    with pytest.raises(PipelineError, match="inception_v3 needs pictures of at least 75 .*set image_size=92 or more"):
        checks.check(parameters.parse([both, "image_size=64"], declared), on_cluster=False)
