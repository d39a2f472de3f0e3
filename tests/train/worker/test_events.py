import threading

import numpy as np
import pytest

from components.train.worker import events


def test_profile_on_demand(tmp_path):
    with events.EventLog(str(tmp_path)) as log:
        (tmp_path / events.PROFILE_REQUEST).touch()
        noticed = threading.Event()
        step = 0
        while not log.profiling and step < 10_000:
            noticed.wait(0.01)
            log.before_step(step)
            step += 1
        for more in range(step, step + events.PROFILED_STEPS + 1):
            log.before_step(more)
        assert not log.profiling
    assert list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))


def test_workers_other_than_the_chief_write_nothing(tmp_path):
    with events.EventLog(str(tmp_path), chief=False) as log:
        log.scalars(1, {"loss": 1.0})
        log.images(1, "augmented", np.zeros([1, 4, 4, 3], np.uint8))
    assert not list(tmp_path.iterdir())


def test_confusion_matrix_darkens_with_the_share_of_the_row():
    picture = events.confusion_image(np.array([[9, 1], [0, 400]]), ["a", "b"])
    assert picture.dtype == np.uint8 and picture.shape[0] == 1 and picture.shape[3] == 3
    assert picture.std() > 20


def written(folder, tag: str) -> list[tuple[int, float]]:
    """(step, value) as TensorBoard's server shows them."""
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), {"tensors": 0}).Reload()
    return [(event.step, float(event.tensor_proto.float_val[0])) for event in events.Tensors(tag)]


def test_steps_that_are_done_again_stand_once_in_the_curve(tmp_path):
    with events.EventLog(str(tmp_path)) as log:
        for step in range(1, 8):
            log.scalars(step, {"step/loss": 1.0})
    # Killed after step 7; the last checkpoint was of step 4.
    with events.EventLog(str(tmp_path), step=4) as log:
        for step in range(5, 10):
            log.scalars(step, {"step/loss": 2.0})
    assert written(tmp_path, "step/loss") == [(step, 1.0 if step < 5 else 2.0) for step in range(1, 10)]


def test_large_event_files_are_closed_and_not_copied_again(tmp_path, monkeypatch):
    """To a file:// store by way of a folder that TensorFlow can append to, as for s3://."""
    monkeypatch.setattr(events, "ROTATE_BYTES", 2000)
    monkeypatch.setattr(events.storage, "local_path", lambda uri: None)
    copied, upload = [], events.storage.upload
    monkeypatch.setattr(events.storage, "upload", lambda path, uri: copied.append(path) or upload(path, uri))
    store = tmp_path / "store"
    with events.EventLog(f"file://{store}") as log:
        for step in range(1, 201):
            log.scalars(step, {"step/loss": float(step)})
            if step % 40 == 0:
                log.flush()
                log._upload()
    monkeypatch.undo()
    # Files of one second are read in the order of their names, in which 10 stands before 9.
    assert sorted(written(store, "step/loss")) == [(step, float(step)) for step in range(1, 201)]
    assert len(set(copied)) >= 4, "no new file was begun"
    assert max(copied.count(path) for path in copied) <= 3, (
        "a full file is copied when it is full, and once it is closed"
    )


def test_a_store_that_is_gone_at_the_end_hides_no_error(tmp_path, monkeypatch, capsys):
    def gone(*_):
        raise events.storage.StorageError("the bucket is gone")

    monkeypatch.setattr(events.storage, "local_path", lambda uri: None)
    monkeypatch.setattr(events.storage, "upload", gone)
    with pytest.raises(ValueError, match="the real reason"):
        with events.EventLog(f"file://{tmp_path}") as log:
            log.scalars(1, {"step/loss": 1.0})
            raise ValueError("the real reason")
    assert "the last TensorBoard events are not in" in capsys.readouterr().out
    with events.EventLog(f"file://{tmp_path}") as log:  # and a training that is done stays done
        log.scalars(1, {"step/loss": 1.0})
