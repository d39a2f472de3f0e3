"""A canary: its share of the traffic in whole pods, and what becomes of it."""

# Fixtures are imported, and tests have arguments of their names.
import pytest

from components.serve import smoke
from components.serve.rollout import RolloutError, canary_pods
from tests.helpers.rollouts import autoscaler, replicas, rollback, scaled_by_itself, served


def test_a_canary_gets_its_share_and_then_everything(kube, servers, put, models):
    first, _, _ = put(models[0])
    second, share, _ = put(models[1], canary=25)
    assert replicas(kube) == {first: 3, second: 1} and share.startswith("25% of the traffic (1 of 4 pods)")
    names = served(servers, 8)
    assert (names.count("first"), names.count("second")) == (6, 2)
    assert kube.one("HorizontalPodAutoscaler", "colours") is None
    assert put(models[1])[1] == "all of the traffic"
    assert replicas(kube) == {first: 0, second: 1} and autoscaler(kube) == (second, 1, 4)
    assert set(served(servers, 4)) == {"second"}
    rollback()
    assert replicas(kube) == {first: 1, second: 0}


@pytest.mark.slow
def test_beside_a_canary_a_rollback_ends_the_canary_and_the_next_one_goes_back(kube, servers, put, models, capsys):
    oldest, _, _ = put(models[0], image="serve:0")
    first, _, _ = put(models[0], replicas=2)
    scaled_by_itself(kube, first, 3)
    second, _, _ = put(models[1], replicas=2, canary=10)
    assert replicas(kube) == {oldest: 0, first: 9, second: 1}
    # A canary of another share is measured by what was there before the first one.
    put(models[1], replicas=2, canary=50)
    assert replicas(kube) == {oldest: 0, first: 3, second: 3}
    assert f"the canary {second} ends, {first} has all of the traffic" in capsys.readouterr().out

    assert rollback() == f"colours serves {first} again, instead of {second}"
    assert replicas(kube) == {oldest: 0, first: 3, second: 0} and autoscaler(kube) == (first, 2, 8)
    assert set(served(servers, 4)) == {"first"}
    assert rollback() == f"colours serves {oldest} again, instead of {first}"
    assert replicas(kube) == {oldest: 3, first: 0, second: 0} and autoscaler(kube) == (oldest, 2, 8)


def test_a_canary_that_answers_wrongly_never_gets_traffic(kube, servers, put, models):
    first, _, _ = put(models[0], replicas=2)
    with pytest.raises(RolloutError, match=f"still serves {first}"):
        put(models[2], canary=25)
    assert replicas(kube) == {first: 2} and autoscaler(kube) == (first, 2, 8)
    assert set(served(servers, 4)) == {"first"}


@pytest.mark.slow
def test_a_canary_that_does_not_become_the_main_version_loses_its_pods(kube, servers, put, models):
    first, _, _ = put(models[0])
    second, _, _ = put(models[1], canary=50)

    def look(url: str):
        raise smoke.SmokeTestError("no")

    with pytest.raises(RolloutError, match=f"still serves {first}"):
        put(models[1], look=look)
    assert replicas(kube) == {first: 1, second: 0} and autoscaler(kube) == (first, 1, 4)


@pytest.mark.parametrize(
    ("percent", "number", "pods"),
    [(50, 1, (1, 1)), (25, 1, (3, 1)), (10, 1, (9, 1)), (10, 9, (9, 1)), (50, 3, (3, 3)), (1, 1, (19, 1))],
)
def test_shares_in_whole_pods(percent, number, pods):
    assert canary_pods(percent, number) == pods
