"""Two devices of one machine compute what one does, in every precision; half precision that never recovers stops."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from components.shared.errors import PipelineError
from components.train.worker import step, training
from components.train.worker.loop import MOST_SKIPPED

# Relative: of the first steps, before an optimizer has magnified what rounding and sums in another order leave; and of
# the loss after all of them. (float32: of the answers, too.)
TOLERANCES = {"float32": (1e-5, 1e-4), "mixed_bfloat16": (5e-3, 5e-2), "mixed_float16": (2e-3, 5e-2)}


def result(replicas: int, policy: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.two_devices", str(replicas), policy],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def float32() -> dict:
    return result(1, "float32")


@pytest.mark.slow
@pytest.mark.parametrize("policy", TOLERANCES)
def test_two_devices_equal_one(float32, policy):
    one = float32 if policy == "float32" else result(1, policy)
    two = result(2, policy)
    assert two["counted"] == one["counted"] == 16
    assert one["loss"][-1] < one["loss"][0], "nothing was learned"
    early, late = TOLERANCES[policy]
    for name in ("loss", "norm"):
        assert two[name][:2] == pytest.approx(one[name][:2], rel=early), name
    assert two["loss"] == pytest.approx(one["loss"], rel=late)
    if policy == "float32":
        assert np.array(two["answers"]) == pytest.approx(np.array(one["answers"]), abs=1e-4)
    # Half precision learns what float32 does.
    assert two["loss"] == pytest.approx(float32["loss"], rel=0.1)


@pytest.fixture
def float32_afterwards():
    """A training that fails leaves its precision to the process, which then ends; a test's process goes on."""
    import keras

    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.slow
@pytest.mark.usefixtures("float32_afterwards")
def test_half_precision_whose_gradients_stay_infinite_stops(make_settings, dataset, tmp_path, monkeypatch):
    cross_entropy = step._cross_entropy

    def without_gradient(targets, logits):
        import tensorflow as tf

        # The root of 0 has the value 0 and an infinite slope: the loss is fine and no loss scale helps.
        return cross_entropy(targets, logits) + tf.sqrt(tf.reduce_sum(logits, axis=1) * 0)

    monkeypatch.setattr(step, "_cross_entropy", without_gradient)
    settings = make_settings(precision="float16", epochs=8)
    with pytest.raises(PipelineError, match=rf"its gradient nan at step {MOST_SKIPPED}, .*learning_rate below"):
        training.run(settings, dataset, str(tmp_path / "out"), str(tmp_path / "checkpoints"))
