"""What is in service in a namespace, by which run and since when; putting a version back, and taking a service down."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from components.artifacts.service import (
    KSERVE_KIND,
    RUN_ANNOTATION,
    SERVICE_LABEL,
    SINCE_ANNOTATION,
    URI_ANNOTATION,
    VERSION_LABEL,
)
from components.serve import kserve, pods
from components.serve.kserve import KServe
from components.serve.rollout import AUTOSCALER, BUDGET, DEPLOYMENT, SERVICE, Rollout, RolloutError, Timeouts
from components.shared import kubernetes
from components.shared.errors import Stopped
from components.shared.kubernetes import Cluster, Forbidden, Object

# For a person who waits at a desk: the version in service goes on meanwhile and afterwards.
ROLLBACK_TIMEOUTS = Timeouts(ready=300)


@dataclass(frozen=True)
class Version:
    """A model in an image; `run` is the KFP run that deployed it, `deployed` when it first did, as ISO 8601."""

    name: str
    uri: str
    run: str
    deployed: str


@dataclass(frozen=True)
class Served:
    """One service.

    Attributes:
        serving: deployment or kserve.
        since: when `main` came into service, as ISO 8601; empty if nobody noted it.
        ready, wanted: pods of `main`.
        problem: why not all of them are ready; may be empty.
        canary: the version that has a share of the traffic, if one has.
        earlier: versions to roll back to; the first is what `rollback` takes by itself.
    """

    name: str
    serving: str
    main: Version
    since: str
    ready: int
    wanted: int
    problem: str
    canary: Version | None
    earlier: tuple[Version, ...]


def status(cluster: Cluster) -> list[Served]:
    """All services of the namespace. Raises ClusterError: it may not be read, or does not answer."""
    found = [entry for entry in cluster.find(*SERVICE, SERVICE_LABEL) if _is_public(entry)]
    return [_of_deployments(cluster, entry) for entry in found] + list(map(_of_kserve, _inference_services(cluster)))


def rollback(cluster: Cluster, service: str, version: str = "", timeouts: Timeouts = ROLLBACK_TIMEOUTS) -> str:
    """Puts `version`, else the previous one, of `service` back into service, or ends its canary.

    Returns what was done. Ended by a signal, it takes the pods away that it had started.

    Raises:
        PipelineError: there is no such service or version, or nothing to go back to, or it does not start.
    """
    kind = KServe if _kind(cluster, service) == KSERVE_KIND else Rollout
    with interruptible("rollback was told to stop"):
        now, before = kind(cluster, service, timeouts).rollback(version)
    return f"{service} serves {now} again, instead of {before}"


def undeploy(cluster: Cluster, service: str) -> list[str]:
    """Takes `service` down, all versions of it; returns what was deleted, as `Kind name`. Models stay in their store.

    Raises:
        PipelineError: there is no such service, or it may not be deleted.
    """
    if _kind(cluster, service) == KSERVE_KIND:
        cluster.delete(*KSERVE_KIND, service)
        return [f"InferenceService {service}"]
    # The Service that people call goes first: no request reaches a pod that is about to go.
    gone = [(SERVICE, service)]
    for kind in (AUTOSCALER, BUDGET):
        with contextlib.suppress(Forbidden):
            gone += [(kind, service)] if cluster.get(*kind, service) else []
    for kind in (DEPLOYMENT, SERVICE):
        named = [entry["metadata"]["name"] for entry in cluster.find(*kind, f"{SERVICE_LABEL}={service}")]
        gone += [(kind, name) for name in named if (kind, name) not in gone]
    for kind, name in gone:
        cluster.delete(*kind, name)
    return [f"{kind[1]} {name}" for kind, name in gone]


@contextlib.contextmanager
def interruptible(message: str) -> Iterator[None]:
    """SIGTERM and SIGHUP become Stopped in this block, so that what has begun is taken back."""

    def stop(*_: object) -> None:
        raise Stopped(message)

    if threading.current_thread() is not threading.main_thread():
        yield  # signals go to the main thread only
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _kind(cluster: Cluster, service: str) -> tuple[str, str]:
    """What serves under the name. Raises RolloutError that names what there is, if it is nothing of ours."""
    live = cluster.get(*SERVICE, service)
    if live is not None and _is_public(live):
        return SERVICE
    if any(entry["metadata"]["name"] == service for entry in _inference_services(cluster)):
        return KSERVE_KIND
    known = ", ".join(entry.name for entry in status(cluster)) or "none"
    other = f"{service} in namespace {cluster.namespace} is no service of this pipeline"
    missing = f"there is no service {service} in namespace {cluster.namespace}"
    raise RolloutError(f"{other if live else missing}; known here: {known} (python pipeline.py status)")


def _is_public(entry: Object) -> bool:
    """Whether it is the Service that people call, not one of a single version."""
    return (entry["metadata"].get("labels") or {}).get(SERVICE_LABEL) == entry["metadata"]["name"]


def _inference_services(cluster: Cluster) -> list[Object]:
    # A cluster without KServe does not know the kind, and who may not look deploys without it.
    with contextlib.suppress(Forbidden, kubernetes.NotThere):
        return cluster.find(*KSERVE_KIND, SERVICE_LABEL)
    return []


def _of_deployments(cluster: Cluster, live: Object) -> Served:
    name = live["metadata"]["name"]
    known = Rollout(cluster, name).versions()
    deployments = cluster.find(*DEPLOYMENT, f"{SERVICE_LABEL}={name}")
    by_version = {entry["metadata"]["labels"][VERSION_LABEL]: entry for entry in deployments}
    made = sorted(by_version, key=lambda version: by_version[version]["metadata"]["creationTimestamp"], reverse=True)
    earlier = [version for version in made if version not in (known.main, known.canary)]
    earlier.sort(key=lambda version: version != known.previous)
    main = by_version.get(known.main, {})
    ready, wanted = main.get("status", {}).get("readyReplicas", 0), main.get("spec", {}).get("replicas", 0)
    problem = "its Deployment is gone" if not main else ""
    if main and ready < wanted:
        selector = f"{SERVICE_LABEL}={name},{VERSION_LABEL}={known.main}"
        problem, _ = pods.waiting_for(cluster, cluster.find("v1", "Pod", selector), main)

    def version(of: str) -> Version:
        metadata = by_version.get(of, {}).get("metadata", {})
        notes = metadata.get("annotations") or {}
        uri, run = notes.get(URI_ANNOTATION, ""), notes.get(RUN_ANNOTATION, "")
        return Version(of, uri, run, metadata.get("creationTimestamp", ""))

    return Served(
        name=name,
        serving="deployment",
        main=version(known.main),
        since=known.since,
        ready=ready,
        wanted=wanted,
        problem=problem,
        canary=version(known.canary) if known.canary else None,
        earlier=tuple(map(version, earlier)),
    )


def _of_kserve(live: Object) -> Served:
    metadata, now = live["metadata"], live["spec"]["predictor"]
    notes = metadata.get("annotations") or {}
    former = kserve.earlier_predictors(live)
    canary = kserve.SPLIT in now and bool(former)
    main = former.pop(0) if canary else now
    is_ready = kubernetes.condition(live, "Ready") is not None
    wanted = main.get("minReplicas", 1)

    def version(predictor: Object) -> Version:
        run = notes.get(RUN_ANNOTATION, "") if predictor is now else ""
        return Version(kserve.version_of(predictor), kserve.model_of(predictor).uri, run, "")

    return Served(
        name=metadata["name"],
        serving="kserve",
        main=version(main),
        since=notes.get(SINCE_ANNOTATION, ""),
        ready=wanted if is_ready else 0,
        wanted=wanted,
        problem="" if is_ready else "KServe does not say Ready",
        canary=version(now) if canary else None,
        earlier=tuple(map(version, former)),
    )
