"""What is in service, told and changed from a desk: `pipeline.py status`, `rollback` and `undeploy`."""

import os
import re
import signal
import threading

import pytest

from cli.main import main
from components.serve import objects, services
from components.serve.rollout import Timeouts
from components.shared import kubernetes
from tests.fakes.step_pod import RUN
from tests.helpers.rollouts import replicas, served, version

FOREIGN = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "mysql"},
    "spec": {"selector": {"app": "mysql"}, "ports": [{"port": 3306}]},
}


def printed(capsys, *line: str) -> tuple[int, str]:
    status = main(list(line))
    told = capsys.readouterr()
    return status, told.out + told.err


def test_status_names_versions_runs_and_times(kube, servers, put, models, capsys):
    assert printed(capsys, "status") == (0, "nothing is in service in namespace kubeflow\n")
    for model in models[:2]:
        put(model)
    capsys.readouterr()
    status, text = printed(capsys, "status")
    lines = text.splitlines()
    assert status == 0
    assert lines[0].startswith(f"colours: serves {version(models[1])} since 20")
    assert lines[0].endswith(" UTC, 1 of 1 pods ready")
    assert lines[1] == f"  model     {models[1].uri}"
    assert lines[2].startswith(f"  made by   run {RUN}, deployed 20")
    assert lines[3].startswith(f"  earlier   {version(models[0])}, made by run {RUN}, deployed 20")
    assert len(lines) == 4


@pytest.mark.slow
def test_since_is_when_a_version_came_into_service(kube, servers, put, models, monkeypatch):
    times = iter(f"2026-11-29T10:00:0{second}Z" for second in range(9))
    monkeypatch.setattr(objects, "now", lambda: next(times))

    def since() -> str:
        (found,) = services.status(kubernetes.connect())
        return found.since

    put(models[0])
    first = since()
    put(models[0], replicas=2)  # the same version again, with more pods
    assert since() == first
    put(models[1])
    assert since() > first
    services.rollback(kubernetes.connect(), "colours")
    assert since() > first


def test_status_of_a_canary_and_of_pods_that_are_not_ready(kube, servers, put, models, capsys):
    put(models[0])
    put(models[1], canary=50)
    (found,) = services.status(kubernetes.connect())
    assert (found.main.name, found.canary.name) == (version(models[0]), version(models[1]))
    name = f"colours-{version(models[0])}"
    kube.change("Deployment", name, lambda live: live["status"].update(readyReplicas=0))
    kube.change("Pod", f"{name}-0", lambda pod: pod["status"]["conditions"][0].update(status="False"))
    capsys.readouterr()
    status, text = printed(capsys, "status")
    assert status == 1 and f"0 of 1 pods ready\n  pod {name}-0 is not ready: " in text
    assert f"  canary    {version(models[1])}, made by" in text


@pytest.mark.slow
def test_rollback_to_a_version_of_choice(kube, servers, put, models, capsys):
    for image in ("serve:1", "serve:2", "serve:3"):
        put(models[0], image=image)
    oldest = version(models[0], "serve:1")
    status, text = printed(capsys, "rollback", "colours", "--to", oldest)
    assert status == 0 and text.endswith(f"colours serves {oldest} again, instead of {version(models[0], 'serve:3')}\n")
    status, text = printed(capsys, "rollback", "colours", "--to", "0123456789")
    assert status == 2 and "has no version 0123456789 to go back to; it serves" in text


@pytest.mark.slow
def test_rollback_without_room_gives_up(kube, servers, put, models, capsys):
    first, second = (put(model)[0] for model in models[:2])
    servers.full = True
    status, text = printed(capsys, "rollback", "colours", "--seconds", "0.3")
    assert status == 2 and text.count("error: ") == 1
    assert re.search(rf"version {first} does not start: not ready after \d+ s: no node takes pod", text)
    assert f"colours still serves {second}" in text
    assert replicas(kube) == {first: 0, second: 1} and served(servers) == ["second"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_rollback_ended_by_a_signal_leaves_nothing_running(kube, servers, put, models, capsys, number):
    first, second = (put(model)[0] for model in models[:2])
    servers.full = True
    # A shell's background jobs, such as these tests may be, ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def end_it() -> None:
        kube.wait(lambda: replicas(kube)[first] == 1)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=end_it)
    thread.start()
    try:
        status, text = printed(capsys, "rollback", "colours")
    finally:
        signal.signal(signal.SIGINT, before)
    thread.join()
    assert status == (130 if number == signal.SIGINT else 2), text
    assert replicas(kube) == {first: 0, second: 1} and served(servers) == ["second"]


def test_what_is_not_ours_is_left_alone(kube, servers, put, models, capsys):
    kube.put(FOREIGN)
    put(models[0])
    for command in ("rollback", "undeploy"):
        capsys.readouterr()
        status, text = printed(capsys, command, "mysql")
        assert status == 2 and text == (
            "error: mysql in namespace kubeflow is no service of this pipeline; known here: colours "
            "(python pipeline.py status)\n"
        )
        status, text = printed(capsys, command, f"colours-{version(models[0])}")  # of one version only
        assert status == 2 and "is no service of this pipeline" in text
    assert kube.one("Service", "mysql") and served(servers) == ["first"]


def test_undeploy_takes_all_of_a_service_and_nothing_else(kube, servers, put, models, capsys):
    kube.put(FOREIGN)
    for model in models[:2]:
        put(model)
    capsys.readouterr()
    status, text = printed(capsys, "undeploy", "colours")
    assert status == 0 and text.splitlines()[0] == "deleted Service colours"
    assert text.count("deleted ") == 7
    assert text.endswith("colours is no longer served; its models stay where the runs left them\n")
    kinds = ("Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Pod")
    kube.wait(lambda: not any(entry for entry in kube.all("Pod") if "serve" in entry["metadata"]["name"]))
    assert [kube.all(kind) for kind in kinds[:3]] == [[], [], []]
    assert [entry["metadata"]["name"] for entry in kube.all("Service")] == ["mysql"]
    assert printed(capsys, "undeploy", "colours")[0] == 2


def test_a_patience_for_people():
    assert services.ROLLBACK_TIMEOUTS.ready < Timeouts().ready
