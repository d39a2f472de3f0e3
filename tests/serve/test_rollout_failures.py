"""A deployment that fails, or is stopped, leaves what was there as it was, and says why."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from components.serve import objects, services, smoke
from components.serve.objects import Model
from components.serve.rollout import Rollout, RolloutError, Superseded, Timeouts
from components.shared import kubernetes
from components.shared.errors import PipelineError
from tests.fakes.step_pod import step_pod
from tests.helpers.rollouts import (
    IMAGE,
    TIMEOUTS,
    autoscaler,
    note,
    replicas,
    rollback,
    scaled_by_itself,
    served,
    version,
)

IN_SERVICE = (("Service", "colours"), ("HorizontalPodAutoscaler", "colours"), ("PodDisruptionBudget", "colours"))


def test_a_version_that_answers_wrongly_is_taken_back(kube, servers, put, models):
    first, _, _ = put(models[0])
    with pytest.raises(RolloutError, match=f"for 6 of 6 test pictures.*colours still serves {first}"):
        put(models[2])
    assert replicas(kube) == {first: 1}
    assert {service["metadata"]["name"] for service in kube.all("Service")} == {"colours", f"colours-{first}"}
    assert kube.one("Service", "colours")["spec"]["selector"]["museum-classifier/version"] == first


@pytest.mark.parametrize("when", [0, 1], ids=["before the switch", "after it"])
@pytest.mark.parametrize("failure", [KeyError("version"), smoke.SmokeTestError("no"), KeyboardInterrupt()])
def test_whatever_goes_wrong_the_old_version_is_as_it_was(kube, servers, put, models, failure, when):
    first, _, _ = put(models[0], replicas=2)
    scaled_by_itself(kube, first, 3)
    kube.change("HorizontalPodAutoscaler", "colours", lambda obj: obj["spec"].update(maxReplicas=20))
    before = [kube.one(kind, name) for kind, name in IN_SERVICE] + [kube.one("Deployment", f"colours-{first}")]
    tests = []

    def look(url: str):
        tests.append(url)
        if len(tests) > when:
            raise failure

    # A mistake in the code keeps its traceback; what the user can read and mend is the step's reason.
    expected = RolloutError if isinstance(failure, PipelineError) else type(failure)
    with pytest.raises(expected):
        put(models[1], replicas=1, look=look)
    after = [kube.one(kind, name) for kind, name in IN_SERVICE] + [kube.one("Deployment", f"colours-{first}")]
    assert [entry["spec"] for entry in after] == [entry["spec"] for entry in before]
    assert [note(entry) for entry in after] == [note(entry) for entry in before]
    assert replicas(kube) == {first: 3} and served(servers) == ["first"]


def test_a_step_that_is_told_to_stop_takes_back_what_it_has_begun(kube, servers, put, models):
    first, _, _ = put(models[0])
    with pytest.raises(RolloutError, match=f"was taken back: the step was told to stop; colours still serves {first}"):
        with services.interruptible("the step was told to stop"):
            put(models[1], look=lambda url: os.kill(os.getpid(), signal.SIGTERM))
    assert replicas(kube) == {first: 1}


@pytest.mark.slow
def test_what_a_killed_step_left_is_cleared_away(kube, servers, put, models):
    first, _, _ = put(models[0])
    inherited, left = objects.inherited(step_pod(), [], own_account=True), version(models[0], "serve:2")
    kubernetes.connect().apply(objects.deployment("colours", left, models[0], "serve:2", 1, inherited))
    second, _, _ = put(models[1])
    assert replicas(kube) == {first: 0, left: 0, second: 1}
    assert rollback() == f"colours serves {first} again, instead of {second}"


@pytest.mark.parametrize("when", [0, 1], ids=["before the switch", "after it"])
def test_of_a_first_version_that_fails_nothing_is_left(kube, servers, put, models, when):
    tests = []

    def look(url: str):
        tests.append(url)
        if len(tests) > when:
            raise smoke.SmokeTestError("no")

    with pytest.raises(RolloutError, match="was taken back: no; colours serves nothing"):
        put(models[0], look=look)
    kinds = ("Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget")
    assert [kube.all(kind) for kind in kinds] == [[], [], [], []]


def test_a_version_deployed_again_that_fails_keeps_its_old_form(kube, servers, put, models):
    first, _, _ = put(models[0], replicas=2)
    before = kube.one("Deployment", f"colours-{first}")["spec"]

    def look(url: str):
        raise smoke.SmokeTestError("no")

    with pytest.raises(RolloutError):
        put(models[0], replicas=4, look=look)
    assert kube.one("Deployment", f"colours-{first}")["spec"] == before
    assert served(servers) == ["first"] and autoscaler(kube) == (first, 2, 8)


OLDER, NEWER = "2026-11-29T10:00:00Z", "2026-11-29T10:00:01Z"


def once(action):
    """A `look` that does `action` at its first call only."""
    left = [action]
    return lambda url: left.pop()() if left else None


def test_an_older_run_gives_way_to_a_newer_one(kube, servers, put, models):
    first, _, _ = put(models[0], created=OLDER)
    newer = once(lambda: put(models[1], created=NEWER))
    second = version(models[1])
    with pytest.raises(Superseded, match=f"a newer run \\(of {NEWER}\\) has deployed {second}"):
        put(models[0], image="serve:2", created=OLDER, look=newer)
    assert served(servers) == ["second"] and autoscaler(kube) == (second, 1, 4)
    assert replicas(kube) == {first: 0, second: 1}


@pytest.mark.slow
def test_a_newer_run_tries_again_after_an_older_one(kube, servers, put, models):
    """The older one ends while the newer one's version is being tried, and takes no pods from it."""
    put(models[0], created=OLDER)
    older = once(lambda: put(models[0], image="serve:2", created=OLDER))
    second, share, _ = put(models[1], created=NEWER, look=older)
    assert served(servers) == ["second"] and share == "all of the traffic"
    assert autoscaler(kube) == (second, 1, 4)
    assert note(kube.one("Service", "colours"))["museum-classifier/previous"] == version(models[0], "serve:2")


@pytest.mark.parametrize("starts", [(OLDER, NEWER), (NEWER, OLDER)])
def test_two_first_deployments_at_once(kube, servers, put, models, starts):
    model = {OLDER: models[0], NEWER: models[1]}

    def run(created: str):
        try:
            return put(model[created], created=created)[1]
        except Superseded as error:
            return str(error)

    with ThreadPoolExecutor(2) as both:
        ends = list(both.map(run, starts))
    assert served(servers) == ["second"] and autoscaler(kube)[0] == version(models[1])
    assert ends[starts.index(NEWER)] == "all of the traffic"
    assert {name for name, count in replicas(kube).items() if count} == {version(models[1])}


def test_a_deployment_of_the_same_model_by_two_runs_is_no_conflict(kube, servers, put, models):
    put(models[0], created=NEWER)
    name, share, _ = put(models[0], created=OLDER)
    assert share == "all of the traffic" and replicas(kube) == {name: 1}
    assert note(kube.one("Service", "colours"))["museum-classifier/run-created"] == NEWER


def test_the_switch_is_made_only_on_what_was_read(kube, servers, put, models):
    put(models[0])
    rollout = Rollout(kubernetes.connect(), "colours", TIMEOUTS)
    before, read = kube.one("Service", "colours"), rollout.versions()
    kube.change("Service", "colours", lambda obj: obj["metadata"]["annotations"].update(by="another run"))
    for revision in (read.revision, ""):  # as read before, and as if there had been none
        with pytest.raises(kubernetes.Conflict):
            rollout._publish(replace(read, main="0123456789", revision=revision))
    assert kube.one("Service", "colours")["spec"] == before["spec"]


@pytest.mark.slow
def test_a_service_that_keeps_changing_ends_the_rollout(kube, servers, put, models):
    first, _, _ = put(models[0])

    def look(url: str):
        if "colours" not in url or url != servers.url("colours"):
            kube.change("Service", "colours", lambda obj: obj["metadata"]["annotations"].update(at=str(time.time())))

    with pytest.raises(RolloutError, match=f"was taken back: cannot apply Service.*still serves {first}"):
        put(models[1], look=look)
    assert served(servers) == ["first"] and replicas(kube) == {first: 1}


def test_a_version_that_crashes_says_why(kube, servers, put, models):
    with pytest.raises(RolloutError, match="keeps crashing: .*checksum.*colours serves nothing"):
        put(Model(models[0].uri, "0" * 64))
    assert kube.all("Deployment") == [] and kube.all("Service") == []


def test_an_image_that_cannot_be_pulled(kube, servers, put, models):
    first, _, _ = put(models[0])
    servers.broken_images.add("nowhere/serve:1")
    with pytest.raises(RolloutError, match="ImagePullBackOff: no such image nowhere/serve:1.*still serves"):
        put(models[1], image="nowhere/serve:1")
    assert replicas(kube) == {first: 1}


def test_pods_that_never_become_ready_time_out(kube, models):
    """No controller plays here: the Deployment stays as it was applied."""
    rollout = Rollout(kubernetes.connect(), "colours", Timeouts(poll=0.02, image=0.1, ready=0.2))
    inherited = objects.inherited(step_pod(), [], own_account=False)
    with pytest.raises(RolloutError, match="not ready after 0 s: there is no pod yet"):
        rollout.deploy(models[0], IMAGE, 1, 0, inherited, smoke=None)
    assert kube.all("Deployment") == []
