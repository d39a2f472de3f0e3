"""A training Job in a queue of Kueue: it waits for as long as it takes, and is preempted without a restart."""

import time

import pytest

from components.shared.errors import PipelineError
from components.train.launcher import cluster_workers
from components.train.launcher.cluster_workers import Timeouts
from tests.helpers.job_scene import in_background


class Hours:
    """The launcher's clock: a second of ours is as many of its own as `pace` says."""

    def __init__(self) -> None:
        self.pace, self._real, self._now = 1.0, time.monotonic(), 0.0

    def monotonic(self) -> float:
        real = time.monotonic()
        self._now, self._real = self._now + (real - self._real) * self.pace, real
        return self._now

    time, sleep = staticmethod(time.time), staticmethod(time.sleep)


def kueue(kube, *names: str) -> None:
    for name in names:
        kube.put({"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "LocalQueue", "metadata": {"name": name}, "spec": {}})


def workload(kube, job_object, **condition: str) -> None:
    labels = {"kueue.x-k8s.io/job-uid": job_object["metadata"]["uid"]}
    kube.put({"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "Workload", "spec": {},
              "metadata": {"name": "job-x", "labels": labels}, "status": {"conditions": [condition]}})  # fmt: skip


def test_a_job_waits_in_its_queue_for_as_long_as_it_takes(scene, capsys, monkeypatch):
    """45 minutes before it is admitted; then its room is taken away, and it waits as long again."""
    clock = Hours()
    monkeypatch.setattr(cluster_workers, "time", clock)
    kueue(scene.kube, "team-a")
    timeouts = Timeouts(poll=0.05, scheduling=1800, starting=300, deletion=10, lease=900)
    result = in_background(scene.train, scene.workers("hang,hang", timeouts, queue="team-a"), 0)
    (made,) = scene.kube.wait(lambda: scene.kube.all("Job"))
    name, begun = made["metadata"]["name"], clock.monotonic()
    workload(scene.kube, made, type="QuotaReserved", status="False", reason="Pending", message="no room: cpu 4 of 4")
    waited = f"Job {name} waits in the queue team-a: no room: cpu 4 of 4"
    for attempt in (0, 1):
        clock.pace = 3600.0
        while clock.monotonic() - begun < 45 * 60:
            time.sleep(0.02)
        clock.pace = 1.0
        assert not scene.jobs._pods(name)
        scene.jobs.suspend(name, False)
        wait_for(scene, f"hanging-0-{attempt}")
        wait_for(scene, f"hanging-1-{attempt}")
        assert scene.kube.one("Job", name)["spec"]["activeDeadlineSeconds"] <= 901, "the lease counts while it runs"
        if attempt == 0:
            clock.pace, begun = 3600.0, clock.monotonic()
            scene.jobs.suspend(name, True)
            wait_for(scene, "preempted-0")
    scene.stopped.set()
    assert "training was told to stop" in str(result()) and scene.generations == [0]
    assert waited in capsys.readouterr().out


def wait_for(scene, part: str) -> None:
    scene.kube.wait(lambda: (scene.folder / part).exists(), 20)


def test_a_job_that_a_person_suspends_outlives_its_deadline(scene, capsys):
    result = in_background(scene.train, scene.workers("hang", Timeouts(0.05, 5, 5, deletion=10, lease=2)), 0)
    wait_for(scene, "hanging-0-0")
    wait_for(scene, "hanging-1-0")  # else it is preempted before it was there, and hangs when it is back
    (made,) = scene.kube.all("Job")
    scene.jobs.suspend(made["metadata"]["name"], True)
    wait_for(scene, "preempted-0")
    time.sleep(2.5)  # longer than its lease
    scene.jobs.suspend(made["metadata"]["name"], False)
    assert result() == 0 and scene.generations == [0]
    assert "is suspended, and goes on when somebody resumes it" in capsys.readouterr().out


@pytest.mark.parametrize(("queues", "message"), [
    (["team-a", "team-b"], "train_queue=nobody: namespace kubeflow has no such LocalQueue; there is team-a, team-b"),
    ([], "train_queue=nobody: namespace kubeflow has no such LocalQueue; there is none"),
])  # fmt: skip
def test_a_queue_that_does_not_exist_is_told_before_anything_is_made(scene, queues, message):
    kueue(scene.kube, *queues)
    with pytest.raises(PipelineError, match=message):
        scene.train(scene.workers(queue="nobody"))
    assert not scene.kube.all("Job") and not scene.kube.all("Service")
