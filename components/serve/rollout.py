"""Puts a version of the server beside the one in service, tries it, and moves the traffic; or takes it all back."""

import time
from dataclasses import dataclass
from typing import Callable

from components.serve import objects, pods
from components.serve.objects import PREVIOUS_ANNOTATION, SERVICE_LABEL, VERSION_LABEL, Model, Surroundings
from components.serve.smoke import SmokeResult
from components.shared.errors import PipelineError
from components.shared.kubernetes import Cluster, ClusterError, Object

DEPLOYMENT, SERVICE = ("apps/v1", "Deployment"), ("v1", "Service")
# Versions that stay, without pods, to be rolled back to.
HISTORY = 3
# A canary's share is made of whole pods, and nobody wants a hundred of them for one percent.
MOST_CANARY_PODS = 20
Smoke = Callable[[str], SmokeResult]


@dataclass(frozen=True)
class Patience:
    """Seconds: between two looks; until an image that cannot be had is given up; until pods must be ready."""

    poll: float = 2
    image: float = 120
    ready: float = 900


class RolloutError(PipelineError):
    """The new version does not start or answers wrongly; what was in service before still is."""


class Rollout:
    """The versions of one service on a cluster."""

    def __init__(self, cluster: Cluster, service: str, patience: Patience = Patience()) -> None:
        self._cluster, self._service, self._patience = cluster, service, patience

    def deploy(
        self, model: Model, image: str, replicas: int, canary_percent: int, around: Surroundings, smoke: Smoke
    ) -> tuple[str, str, SmokeResult]:
        """Deploys a version; returns its name, what share of the traffic it has, and the smoke test's result.

        Args:
            smoke: tries the server behind a URL; raises PipelineError if it answers wrongly.

        Raises:
            RolloutError: it did not work out; the version that was in service still is.
        """
        version, current, previous = objects.version_of(model, image), self.current(), self._previous()
        canary = canary_percent % 100 and current not in ("", version)
        old, new = canary_pods(canary_percent, replicas) if canary else (0, replicas)
        if current:
            # An earlier canary ends here: pods that nobody has tried yet must not be given its share.
            self._open(current, previous=previous)
        try:
            self._cluster.apply(objects.deployment(self._service, version, model, image, new, around))
            self._cluster.apply(objects.version_service(self._service, version))
            self._wait_until_ready(version)
            result = smoke(self.url(f"{self._service}-{version}"))
            if canary:
                return version, self._start_canary(current, version, old, new), result
            # Deployed again, a version keeps the previous one that it had.
            self._switch(version, previous if current == version else current, replicas)
            smoke(self.url(self._service))
        except PipelineError as error:
            self._take_back(version, current, previous, replicas)
            raise RolloutError(f"version {version} was taken back: {error}; {self._still(current)}") from error
        self._retire(keep=(version,))
        return version, "all of the traffic", result

    def rollback(self) -> tuple[str, str]:
        """Puts the previous version back into service; returns (version now in service, version that was).

        Raises:
            RolloutError: there is no previous version, or it does not start.
        """
        current, previous = self.current(), self._previous()
        if not current:
            raise RolloutError(f"there is no service {self._service} in namespace {self._cluster.namespace}")
        live = self._cluster.get(*DEPLOYMENT, f"{self._service}-{previous}") if previous else None
        if live is None:
            raise RolloutError(f"{self._service} has no previous version to go back to; it serves {current}")
        now = self._cluster.get(*DEPLOYMENT, f"{self._service}-{current}")
        replicas = max(1, (now or live)["spec"]["replicas"])
        self._cluster.apply(objects.scaled(live, replicas))
        try:
            self._wait_until_ready(previous)
        except PipelineError as error:
            self._scale(previous, 0)
            raise RolloutError(f"version {previous} does not start: {error}; {self._still(current)}") from error
        self._switch(previous, current, replicas)
        self._retire(keep=(previous,))
        return previous, current

    def current(self) -> str:
        """The version in service, the main one if there is a canary; empty if there is none."""
        found = self._cluster.get(*SERVICE, self._service)
        if found is None:
            return ""
        selector = found["spec"].get("selector") or {}
        if SERVICE_LABEL not in selector:
            raise RolloutError(f"there is another Service called {self._service}: choose another name with service=")
        return selector.get(VERSION_LABEL) or self._previous(found)

    def url(self, name: str) -> str:
        """Where a Service of this namespace is reached from a pod."""
        return f"http://{name}.{self._cluster.namespace}.svc"

    def _previous(self, found: Object | None = None) -> str:
        found = found or self._cluster.get(*SERVICE, self._service) or {"metadata": {}}
        return found["metadata"].get("annotations", {}).get(PREVIOUS_ANNOTATION, "")

    def _open(self, *versions: str, previous: str) -> None:
        self._cluster.apply(objects.public_service(self._service, versions, previous))

    def _switch(self, version: str, previous: str, replicas: int) -> None:
        """All traffic to `version`; `previous` is what a rollback goes back to."""
        self._open(version, previous=previous)
        for extra in (objects.autoscaler(self._service, version, replicas), objects.disruption_budget(self._service)):
            try:
                self._cluster.apply(extra)
            except ClusterError as error:
                # KFP's own role does not include these; the model serves without them.
                print(f"warning: {error}", flush=True)

    def _start_canary(self, current: str, version: str, old: int, new: int) -> str:
        self._retire(keep=(current, version))
        # An autoscaler would change the share.
        try:
            self._cluster.delete("autoscaling/v2", "HorizontalPodAutoscaler", self._service)
        except ClusterError as error:
            print(f"warning: {error}", flush=True)
        self._scale(current, old)
        self._wait_until_ready(current)
        self._open(current, version, previous=current)
        share = new / (old + new)
        return f"{share:.0%} of the traffic ({new} of {old + new} pods); run with canary_percent=0 for all of it"

    def _take_back(self, version: str, current: str, previous: str, replicas: int) -> None:
        """After a failure: the traffic stays with, or returns to, `current`; the failed version goes."""
        if current == version:
            return  # its pods were replaced one by one; those of the old form go on while the new ones fail
        if current:
            self._scale(current, replicas)
            self._switch(current, previous if previous != version else "", replicas)
        else:
            self._cluster.delete(*SERVICE, self._service)
        self._cluster.delete(*DEPLOYMENT, f"{self._service}-{version}")
        self._cluster.delete(*SERVICE, f"{self._service}-{version}")

    def _retire(self, keep: tuple[str, ...]) -> None:
        """Takes the pods from all versions but `keep`, and all else from the oldest."""
        found = self._cluster.find(*DEPLOYMENT, f"{SERVICE_LABEL}={self._service}")
        others = [entry for entry in found if entry["metadata"]["labels"][VERSION_LABEL] not in keep]
        previous = self._previous()
        # The previous version first, whatever its age: a rollback may have made an old one current.
        others.sort(key=lambda entry: entry["metadata"]["creationTimestamp"], reverse=True)
        others.sort(key=lambda entry: entry["metadata"]["labels"][VERSION_LABEL] != previous)
        for place, entry in enumerate(others):
            name = entry["metadata"]["name"]
            if place >= HISTORY:
                self._cluster.delete(*DEPLOYMENT, name)
                self._cluster.delete(*SERVICE, name)
            elif entry["spec"]["replicas"]:
                self._cluster.apply(objects.scaled(entry, 0))

    def _scale(self, version: str, replicas: int) -> None:
        live = self._cluster.get(*DEPLOYMENT, f"{self._service}-{version}")
        if live is not None and live["spec"]["replicas"] != replicas:
            self._cluster.apply(objects.scaled(live, replicas))

    def _wait_until_ready(self, version: str) -> None:
        name, started, said = f"{self._service}-{version}", time.monotonic(), ""
        while True:
            live = self._cluster.get(*DEPLOYMENT, name)
            if live is None:
                raise RolloutError(f"Deployment {name} was deleted meanwhile")
            if _is_ready(live):
                return
            selector = f"{SERVICE_LABEL}={self._service},{VERSION_LABEL}={version}"
            found = self._cluster.find("v1", "Pod", selector)
            if reason := pods.hopeless(self._cluster, found):
                raise RolloutError(reason)
            text, no_image = pods.trouble(self._cluster, found)
            seconds = time.monotonic() - started
            if seconds > (self._patience.image if no_image else self._patience.ready):
                raise RolloutError(f"not ready after {seconds:.0f} s: {text}")
            if text != said:
                print(f"waiting for {name}: {text}", flush=True)
            said = text
            time.sleep(self._patience.poll)

    def _still(self, current: str) -> str:
        return f"{self._service} still serves {current}" if current else f"{self._service} serves nothing"


def canary_pods(percent: int, replicas: int) -> tuple[int, int]:
    """(old, new) numbers of pods that give the new version about `percent` of the traffic.

    A Service deals connections out evenly over its pods. The old version keeps at least `replicas` of them.
    """
    new = max(1, round(replicas * percent / (100 - percent)))
    old = max(replicas, round(new * (100 - percent) / percent))
    return (old, new) if old + new <= MOST_CANARY_PODS else (max(replicas, MOST_CANARY_PODS - new), new)


def _is_ready(live: Object) -> bool:
    status, wanted = live.get("status", {}), live["spec"]["replicas"]
    seen = status.get("observedGeneration", 0) >= live["metadata"]["generation"]
    counts = [status.get(name, 0) for name in ("updatedReplicas", "readyReplicas", "availableReplicas")]
    # `replicas` still counts pods of an older form: they must be gone, or the smoke test may ask them.
    return seen and min(counts) >= wanted and status.get("replicas", 0) == status.get("updatedReplicas", 0)
