"""Which worker was deleted, where a Job has deleted the others after it."""

from components.train.launcher.cluster_workers import deleted_first


def pod(name: str, deleted: str = "", why: str = "") -> dict:
    metadata = {"name": name} | ({"deletionTimestamp": deleted} if deleted else {})
    conditions = [{"type": "DisruptionTarget", "status": "True", "reason": why}] if why else []
    return {"metadata": metadata, "status": {"conditions": conditions}}


def names(*pods: dict) -> list[str]:
    return [found["metadata"]["name"] for found in deleted_first(list(pods))]


def test_the_earliest():
    assert names(pod("b", "2026-01-01T00:00:05Z"), pod("a", "2026-01-01T00:00:04Z"), pod("c")) == ["a"]
    assert names(pod("a"), pod("b")) == []


def test_within_the_same_second_nobody_is_blamed():
    assert names(pod("a", "2026-01-01T00:00:04Z"), pod("b", "2026-01-01T00:00:04Z")) == ["a", "b"]


def test_the_one_that_the_cluster_took_away():
    assert names(pod("a", "2026-01-01T00:00:04Z"), pod("b", "2026-01-01T00:00:04Z", "DeletionByTaintManager")) == ["b"]
