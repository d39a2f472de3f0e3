import numpy as np
import pytest

from components.shared.errors import PipelineError
from components.train.worker.checkpoints import BEST, LAST, Checkpoint, Checkpoints


@pytest.fixture
def uri(tmp_path):
    return f"file://{tmp_path}/checkpoints"


def test_what_was_saved_is_loaded(uri):
    checkpoints = Checkpoints(uri, {"labels": ("a", "b")})
    assert checkpoints.load(LAST) is None
    arrays = {"model/0": np.arange(6, dtype=np.float32).reshape(2, 3), "optimizer/0": np.int64(7)}
    checkpoints.save(LAST, Checkpoint(arrays, {"step": 12, "history": [{"loss": 0.5}]}))
    checkpoints.save(BEST, Checkpoint({"0": np.zeros(2)}))
    loaded = Checkpoints(uri, {"labels": ["a", "b"]}).load(LAST)
    assert loaded.state == {"step": 12, "history": [{"loss": 0.5}]}
    assert all(np.array_equal(loaded.arrays[name], array) for name, array in arrays.items())


def test_a_new_one_takes_the_place_of_the_old(uri):
    checkpoints = Checkpoints(uri, {})
    for step in (1, 2):
        checkpoints.save(LAST, Checkpoint({"0": np.full(3, step)}, {"step": step}))
    assert checkpoints.load(LAST).state["step"] == 2


def test_checkpoint_of_another_training_names_the_difference(uri):
    Checkpoints(uri, {"labels": ["a", "b"], "seed": 1}).save(LAST, Checkpoint({}))
    with pytest.raises(PipelineError, match=r'its labels is \["a", "b"\] and not \["a", "c"\]; delete it'):
        Checkpoints(uri, {"labels": ["a", "c"], "seed": 1}).load(LAST)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04cut off"])
def test_damaged_checkpoint_says_what_to_do(uri, tmp_path, content):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / LAST).write_bytes(content)
    with pytest.raises(PipelineError, match="last.npz is damaged .*delete it to start anew"):
        Checkpoints(uri, {}).load(LAST)
