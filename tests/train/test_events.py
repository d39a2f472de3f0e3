import threading

import numpy as np

from components.train import events


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
