"""Whole lives of training Jobs, against an API server that runs their pods as processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from components.shared import kubernetes
from components.shared.errors import PipelineError
from components.train.launcher.cluster_workers import Timeouts
from tests.fakes.step_pod import NAME, step_pod
from tests.helpers.job_scene import REPOSITORY, in_background, job_name


def test_workers_find_each_other_and_the_chief_is_heard(scene, capsys):
    assert scene.train(scene.workers()) == 0
    chief, other = scene.starts(0)[0]["TF_CONFIG"], scene.starts(1)[0]["TF_CONFIG"]
    assert chief["cluster"] == other["cluster"] and len(set(chief["cluster"]["worker"])) == 2
    assert all(address.startswith("127.0.0.1:") for address in chief["cluster"]["worker"]), "unresolved"
    assert (chief["task"]["index"], other["task"]["index"]) == (0, 1)
    output = capsys.readouterr().out
    assert "worker 0, attempt 0\ndone\n" in output and "worker 1" not in output


def test_the_stores_secret_reaches_the_workers(scene):
    scene.train(scene.workers())
    given = list(scene.jobs.environments.values())
    assert len(given) == 2 and all(entry["AWS_SECRET_ACCESS_KEY"] == "the secret key" for entry in given)


def test_a_crashed_worker_restarts_all_under_new_names(scene, capsys):
    assert scene.train(scene.workers("crash")) == 1
    assert [len(scene.starts(index)) for index in (0, 1)] == [2, 2]
    first, second = (start["TF_CONFIG"]["cluster"]["worker"] for start in scene.starts(0))
    assert not set(first) & set(second), "a worker of the old generation could join the new one"
    assert [entry["metadata"]["name"] for entry in scene.kube.all("Job")] == [job_name(1)]
    output = capsys.readouterr().out
    assert "was killed by signal 11" in output and "about to crash" in output and "restart 1 of 3" in output


def test_survivors_of_a_crash_may_write_a_checkpoint(scene):
    scene.train(scene.workers("crash"))
    assert (scene.folder / "preempted-0").exists()


def test_a_worker_that_is_killed_restarts_all(scene):
    result = in_background(scene.train, scene.workers("hang"))
    scene.wait_until_all_hang()
    scene.jobs.kill(f"{job_name(0)}-1")
    assert result() == 1


def test_a_preempted_worker_restarts_all(scene, capsys):
    result = in_background(scene.train, scene.workers("hang"))
    scene.wait_until_all_hang()
    scene.jobs.kill(f"{job_name(0)}-0", signal.SIGTERM)
    assert result() == 1
    assert "was preempted" in capsys.readouterr().out


def test_a_lost_node_restarts_all_although_its_pod_never_ends(scene, capsys):
    result = in_background(scene.train, scene.workers("hang", Timeouts(0.05, 5, 5, deletion=1)))
    scene.wait_until_all_hang()
    lost = scene.jobs.lose(f"{job_name(0)}-1")
    assert result() == 0, "the loss of a node is no restart of ours"
    assert scene.generations == [0, 1]
    assert scene.kube.one("Pod", lost), "the test's own assumption: the pod is still there"
    assert f"pod {lost} was deleted (Taint manager: deleting due to NoExecute taint)" in capsys.readouterr().out


def test_a_preemption_costs_no_restart(scene, capsys):
    result = in_background(scene.train, scene.workers("hang"), 0)
    scene.wait_until_all_hang()
    scene.jobs.preempt(f"{job_name(0)}-1")
    assert result() == 0 and scene.generations == [0, 1]
    assert "preempted: all workers go on from the last checkpoint" in capsys.readouterr().out
    assert all((scene.folder / f"preempted-{index}").exists() for index in (0, 1)), "each wrote a checkpoint"


def test_max_restarts_is_the_end_and_says_the_last_line(scene):
    with pytest.raises(PipelineError, match="was killed by signal 11 and max_restarts=1 is used up.*about to crash"):
        scene.train(scene.workers("crash,crash,crash"), max_restarts=1)
    assert scene.generations == [0, 1]


def test_a_mistake_of_the_user_is_told_and_not_repeated(scene):
    with pytest.raises(PipelineError, match="^the labels do not match$"):
        scene.train(scene.workers("user_error"))
    assert scene.generations == [0]


def test_a_log_that_breaks_off_is_taken_up_without_a_line_lost_or_doubled(scene, capsys):
    result = in_background(scene.train, scene.workers("talk"))
    scene.kube.wait(lambda: "line 2" in scene.jobs.log(scene.jobs.running(f"{job_name(0)}-0")))
    scene.jobs.cut_logs()
    (scene.folder / "go-on").touch()
    assert result() == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("line ")]
    assert lines == [f"line {number}" for number in range(6)]


def test_a_gpu_that_no_node_has_is_told_with_the_schedulers_words(scene):
    scene.jobs.unschedulable = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    with pytest.raises(PipelineError, match="2 of 2 workers cannot start: 0/3 nodes .*gpus=1 of nvidia.com/gpu"):
        scene.train(scene.workers(gpus=1))


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "ErrImageNeverPull"])
def test_an_image_that_cannot_be_had_is_told(scene, reason):
    scene.jobs.waiting = (reason, "no such image")
    with pytest.raises(PipelineError, match=f"{reason}: no such image.*check the image"):
        scene.train(scene.workers())


def test_a_quota_that_lets_no_pod_be_made_is_told(scene):
    scene.kube.controllers.clear()  # nobody makes pods
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Job", "name": job_name(0)},
        "type": "Warning",
        "message": "exceeded quota: pods",
    }
    scene.kube.put(event)
    with pytest.raises(PipelineError, match="exceeded quota: pods"):
        scene.train(scene.workers())


def test_a_quota_is_told_without_the_right_to_read_events(scene):
    scene.kube.controllers.clear()
    scene.kube.refuse("GET", "events", 403)
    with pytest.raises(PipelineError, match="a quota.*kubectl describe job"):
        scene.train(scene.workers())


def test_a_job_that_somebody_deletes_ends_the_training(scene):
    result = in_background(scene.train, scene.workers("hang"))
    scene.wait_until_all_hang()
    kubernetes.connect().delete("batch/v1", "Job", job_name(0))
    assert "was deleted while it ran" in str(result())


def test_a_retried_step_takes_over_the_running_job(scene, capsys):
    first = in_background(scene.train, scene.workers("hang"))
    scene.wait_until_all_hang()
    second = in_background(scene.train, scene.workers("hang"))
    # Both listen to the chief.
    scene.kube.wait(lambda: sum(path.endswith("/log") for _, path in scene.kube.requests) >= 2)
    scene.jobs.kill(f"{job_name(0)}-0")
    assert first() == 1
    assert second() in (0, 1)
    assert len(scene.starts(0)) == 2, "the second launcher must not start workers of its own"
    assert "following it" in capsys.readouterr().out


def test_a_retried_step_goes_on_after_a_failed_generation(scene):
    scene.workers("crash").run(0, scene.stopped)
    assert scene.train(scene.workers()) == 0
    assert scene.generations == [1]


def test_an_api_server_that_is_away_for_a_while_ends_nothing(scene):
    result = in_background(scene.train, scene.workers("talk"))
    scene.kube.wait(lambda: "line 2" in scene.jobs.log(scene.jobs.running(f"{job_name(0)}-0")))
    scene.kube.refuse("*", "*", 503, times=6)
    (scene.folder / "go-on").touch()
    assert result() == 0


def test_an_api_server_that_is_away_longer_than_a_request_is_repeated_ends_nothing(scene, capsys, monkeypatch):
    """Nor the log: its thread meets the same, earlier or later than the one that watches."""
    monkeypatch.setattr(kubernetes, "_ATTEMPTS", 1)
    result = in_background(scene.train, scene.workers("talk"))
    scene.kube.wait(lambda: "line 2" in scene.jobs.log(scene.jobs.running(f"{job_name(0)}-0")))
    scene.kube.refuse("GET", "*", 503, times=12)
    scene.jobs.cut_logs()
    scene.kube.wait(lambda: scene.kube.refused_all(), 20)
    (scene.folder / "go-on").touch()
    assert result() == 0
    printed = capsys.readouterr().out
    assert "the workers go on meanwhile" in printed and "line 5" in printed


def test_rights_that_are_missing_are_named(scene):
    scene.kube.refuse("PATCH", "jobs", 403, 'jobs.batch is forbidden: User "u" cannot patch resource "jobs"')
    with pytest.raises(PipelineError, match="jobs.batch is forbidden.*rbac"):
        scene.train(scene.workers())


@pytest.fixture
def step(scene, tmp_path, dataset):
    """Starts the train step in a container such as Argo's and KFP's, with workers that hang; returns the process."""
    environment = {**os.environ, "KUBERNETES_SERVICE_HOST": "x", "KFP_POD_NAME": NAME, "PYTHONPATH": str(REPOSITORY)}
    started = []

    def start(lease: float, play: str = "hang,hang") -> subprocess.Popen:
        scene.kube.put(step_pod({"PLAY": play}))
        python = sys.executable
        arguments = [str(tmp_path), str(lease), dataset]
        command = [python, "-m", "tests.fakes.step_container", python, "-c", _LAUNCH, *arguments]
        output = open(tmp_path / f"output-{len(started)}", "w")
        with output:
            started.append(
                subprocess.Popen(command, env=environment, cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT)
            )
        return started[-1]

    yield start
    for process in started:
        process.kill()


def checkpoints(folder: Path) -> Path:
    return folder / "classifier-work" / "simple_cnn" / "checkpoints"


def wait_for(scene, folder: Path, part: str, attempt: str = "") -> None:
    scene.kube.wait(lambda: all((checkpoints(folder) / f"{part}-{index}{attempt}").exists() for index in (0, 1)))


def test_after_sigterm_workers_write_a_checkpoint_and_end(scene, step, tmp_path):
    """Either the step has the time to delete its Job, or the deadline that nobody moves on any more ends it."""
    process = step(lease=5)
    wait_for(scene, tmp_path, "hanging", "-0")
    process.send_signal(signal.SIGTERM)
    wait_for(scene, tmp_path, "preempted")
    assert process.wait(30) == 128 + signal.SIGTERM
    scene.kube.wait(lambda: not any(name.startswith("train-") for name in scene.jobs._running()))


@pytest.mark.slow
def test_workers_end_although_the_step_was_killed_without_a_word(scene, step, tmp_path):
    step(lease=5)
    wait_for(scene, tmp_path, "hanging", "-0")
    kill_all_of(tmp_path)
    wait_for(scene, tmp_path, "preempted")
    scene.kube.wait(lambda: not any(name.startswith("train-") for name in scene.jobs._running()))
    assert any(entry["reason"] == "DeadlineExceeded" for entry in scene.kube.all("Job")[0]["status"]["conditions"])


@pytest.mark.slow
def test_a_step_that_lives_moves_the_deadline_on_and_its_retry_does_too(scene, step, tmp_path):
    step(lease=8)
    wait_for(scene, tmp_path, "hanging", "-0")
    scene.kube.wait(lambda: scene.kube.all("Job")[0]["spec"]["activeDeadlineSeconds"] > 8)
    kill_all_of(tmp_path)
    step(lease=1000)
    scene.kube.wait(lambda: scene.kube.all("Job")[0]["spec"]["activeDeadlineSeconds"] > 999)
    assert "following it" in (tmp_path / "output-1").read_text()
    kill_all_of(tmp_path)
    assert not (checkpoints(tmp_path) / "preempted-0").exists()


def kill_all_of(folder: Path) -> None:
    """SIGKILL to every process of the step, as when its node loses power."""
    for process in psutil.process_iter(["cmdline"]):
        if str(folder) in (process.info["cmdline"] or []):
            process.kill()
            psutil.wait_procs([process], 10)


_LAUNCH = """
import sys
from components.shared.errors import reported
from components.train.launcher import launch as launcher
from components.train.launcher.cluster_workers import Timeouts
from tests.helpers.train_settings import NO_RESOURCES, settings

folder, lease, dataset = sys.argv[1:]
launcher.TIMEOUTS = Timeouts(poll=0.1, lease=float(lease))
with reported():
    outputs = [f"{folder}/{name}" for name in ("classifier", "classifier", "curves", "board")]
    launcher.launch(settings(workers=2), dataset, "data", *outputs, resources=NO_RESOURCES)
"""
