"""Puts a version of the server beside the one in service, tries it, and moves the traffic; or takes it all back.

What is in service stands in the Service that people call (objects.Versions): in its selector, and in its annotations
what a rollback and the end of a canary go back to. The Deployments hold the rest.
"""

import time
from dataclasses import dataclass, replace
from typing import Callable

from components.serve import objects, pods
from components.serve.objects import SERVICE_LABEL, VERSION_LABEL, Model, Surroundings, Versions
from components.serve.smoke import SmokeResult
from components.shared.errors import PipelineError
from components.shared.kubernetes import Cluster, ClusterError, Forbidden, Object

DEPLOYMENT, SERVICE = ("apps/v1", "Deployment"), ("v1", "Service")
AUTOSCALER = ("autoscaling/v2", "HorizontalPodAutoscaler")
BUDGET = ("policy/v1", "PodDisruptionBudget")
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


@dataclass(frozen=True)
class _Before:
    """What a failed rollout goes back to: the versions, the autoscaler, and the new version's own Deployment."""

    versions: Versions
    autoscaler: Object | None
    deployment: Object | None


class Rollout:
    """The versions of one service on a cluster."""

    def __init__(self, cluster: Cluster, service: str, patience: Patience = Patience()) -> None:
        self._cluster, self._service, self._patience = cluster, service, patience

    def deploy(
        self, model: Model, image: str, replicas: int, canary_percent: int, around: Surroundings, smoke: Smoke
    ) -> tuple[str, str, SmokeResult]:
        """Deploys a version; returns its name, what share of the traffic it has, and the smoke test's result.

        Args:
            smoke: tries the server behind a URL, which may still lead nowhere; raises PipelineError if it is not good.

        Raises:
            RolloutError: it did not work out; the version that was in service still is.
        """
        version = objects.version_of(model, image)
        if self.versions().canary:
            self._end_canary(keep=version)
        before = self._look(version)
        try:
            pods_wanted = _pods_to_start(before.versions, replicas)
            canary = canary_percent % 100 and before.versions.main not in ("", version)
            old, new = canary_pods(canary_percent, pods_wanted) if canary else (0, pods_wanted)
            self._cluster.apply(objects.deployment(self._service, version, model, image, new, around))
            self._cluster.apply(objects.version_service(self._service, version))
            self._wait_until_ready(version)
            result = smoke(self.url(f"{self._service}-{version}"))
            self._check_unchanged(before.versions)
            if canary:
                return version, self._start_canary(before.versions, version, old, new), result
            self._switch(_next(before.versions, version, replicas))
            smoke(self.public_url)
        except BaseException as error:
            self._take_back(version, before, error)
            raise
        self._retire(keep=(version,))
        return version, "all of the traffic", result

    def rollback(self, version: str = "") -> tuple[str, str]:
        """Ends the canary, if there is one; else puts `version`, or else the previous one, back into service.

        Returns (the version that has all of the traffic now, the one that loses it).

        Raises:
            RolloutError: there is no previous version, or it does not start.
        """
        now = self.versions()
        if not now.main:
            raise RolloutError(f"there is no service {self._service} in namespace {self._cluster.namespace}")
        if now.canary:
            self._end_canary()
            return now.main, now.canary
        previous = version or now.previous
        if previous in ("", now.main) or self._cluster.get(*DEPLOYMENT, f"{self._service}-{previous}") is None:
            which = f"version {version}" if version else "previous version"
            raise RolloutError(f"{self._service} has no {which} to go back to; it serves {now.main}")
        try:
            self._scale(previous, max(1, now.pods))
            self._wait_until_ready(previous)
        except BaseException as error:
            self._scale(previous, 0)
            if isinstance(error, PipelineError):
                raise RolloutError(f"version {previous} does not start: {error}; {self._still(now.main)}") from error
            raise
        self._switch(_next(now, previous, now.minimum))
        self._retire(keep=(previous,))
        return previous, now.main

    def versions(self) -> Versions:
        """What is in service now. Raises RolloutError if there is a Service of that name that is not ours."""
        found = self._cluster.get(*SERVICE, self._service)
        if found is None:
            return Versions()
        selector, notes = found["spec"].get("selector") or {}, found["metadata"].get("annotations") or {}
        if SERVICE_LABEL not in selector:
            raise RolloutError(f"there is another Service called {self._service}: choose another with serve_name=")
        main = selector.get(VERSION_LABEL) or notes.get(objects.MAIN_ANNOTATION, "")
        live = self._cluster.get(*DEPLOYMENT, f"{self._service}-{main}")
        running = live["spec"]["replicas"] if live else 0
        return Versions(
            main=main,
            previous=notes.get(objects.PREVIOUS_ANNOTATION, ""),
            canary=notes.get(objects.CANARY_ANNOTATION, ""),
            since=notes.get(objects.SINCE_ANNOTATION, ""),
            minimum=int(notes.get(objects.MINIMUM_ANNOTATION, running) or 1),
            pods=int(notes.get(objects.PODS_ANNOTATION, running)),
        )

    @property
    def public_url(self) -> str:
        """What people of the cluster call."""
        return self.url(self._service)

    def url(self, name: str) -> str:
        """Where a Service of this namespace is reached from a pod."""
        return f"http://{name}.{self._cluster.namespace}.svc"

    def _look(self, version: str) -> _Before:
        deployment = self._cluster.get(*DEPLOYMENT, f"{self._service}-{version}")
        return _Before(self.versions(), self._autoscaler(), deployment)

    def _check_unchanged(self, before: Versions) -> None:
        """Two runs may deploy at once: the one that was tried against an older version must not win."""
        now = self.versions().main
        if now != before.main:
            raise RolloutError(f"another run has put {now or 'nothing'} into service meanwhile: run this step again")

    def _switch(self, wanted: Versions) -> None:
        """All traffic to `wanted.main`."""
        self._cluster.apply(objects.public_service(self._service, wanted))
        if not self._extra(objects.autoscaler(self._service, wanted.main, wanted.minimum)):
            self._scale(wanted.main, wanted.minimum)
        self._extra(objects.disruption_budget(self._service))

    def _extra(self, manifest: Object) -> bool:
        """Applies what the model serves without, too: KFP's own role does not include it. Returns whether it could."""
        try:
            self._cluster.apply(manifest)
        except ClusterError as error:
            print(f"warning: {error}", flush=True)
            return False
        return True

    def _autoscaler(self) -> Object | None:
        try:
            return self._cluster.get(*AUTOSCALER, self._service)
        except Forbidden:
            return None

    def _drop(self, *kinds: tuple[str, str]) -> None:
        for kind in kinds:
            try:
                self._cluster.delete(*kind, self._service)
            except Forbidden as error:
                print(f"warning: {error}", flush=True)

    def _start_canary(self, before: Versions, version: str, old: int, new: int) -> str:
        self._retire(keep=(before.main, version))
        self._drop(AUTOSCALER)  # it would change the share
        try:
            self._scale(before.main, old)
            self._wait_until_ready(before.main)
            self._cluster.apply(objects.public_service(self._service, replace(before, canary=version)))
        except BaseException:
            self._scale(before.main, before.pods)
            raise
        share = new / (old + new)
        return f"{share:.0%} of the traffic ({new} of {old + new} pods); run with canary_percent=0 for all of it"

    def _end_canary(self, keep: str = "") -> None:
        """All traffic to the main version again, with as many pods as before; `keep` keeps its pods."""
        now = self.versions()
        print(f"{self._service}: the canary {now.canary} ends, {now.main} has all of the traffic", flush=True)
        self._switch(replace(now, canary=""))
        self._scale(now.main, now.pods)
        self._retire(keep=(now.main, keep))

    def _take_back(self, version: str, before: _Before, cause: BaseException) -> None:
        """The traffic stays with, or returns to, what had it; the failed version goes. Raises RolloutError."""
        try:
            self._undo(version, before)
            main = self.versions().main
        except PipelineError as error:
            message = f"version {version} failed ({cause}) and could not be taken back: {error}"
            raise RolloutError(f"{message}; delete Deployment {self._service}-{version} yourself") from error
        if isinstance(cause, PipelineError):
            raise RolloutError(f"version {version} was taken back: {cause}; {self._still(main)}") from cause

    def _undo(self, version: str, before: _Before) -> None:
        now, was = self.versions(), before.versions
        if not was.main and now.main in ("", version):
            self._cluster.delete(*SERVICE, self._service)
            self._drop(AUTOSCALER, BUDGET)
        elif version in (now.main, now.canary) or now.main == was.main:
            self._cluster.apply(objects.public_service(self._service, was))
            if before.autoscaler:
                self._extra(objects.again(before.autoscaler))
            elif now.main == version:
                self._drop(AUTOSCALER)
        if before.deployment:
            self._cluster.apply(objects.again(before.deployment))
            if version != was.main:
                self._scale(version, 0)
            return
        self._cluster.delete(*DEPLOYMENT, f"{self._service}-{version}")
        self._cluster.delete(*SERVICE, f"{self._service}-{version}")

    def _retire(self, keep: tuple[str, ...]) -> None:
        """Takes the pods from all versions but `keep`, and all else from the oldest."""
        found = self._cluster.find(*DEPLOYMENT, f"{SERVICE_LABEL}={self._service}")
        others = [entry for entry in found if entry["metadata"]["labels"][VERSION_LABEL] not in keep]
        previous = self.versions().previous
        # The previous version first, whatever its age: a rollback may have made an old one current.
        others.sort(key=lambda entry: entry["metadata"]["creationTimestamp"], reverse=True)
        others.sort(key=lambda entry: entry["metadata"]["labels"][VERSION_LABEL] != previous)
        for place, entry in enumerate(others):
            name = entry["metadata"]["name"]
            if place >= HISTORY:
                self._cluster.delete(*DEPLOYMENT, name)
                self._cluster.delete(*SERVICE, name)
            elif entry["spec"]["replicas"]:
                self._cluster.patch(*DEPLOYMENT, name, {"spec": {"replicas": 0}})

    def _scale(self, version: str, replicas: int) -> None:
        name = f"{self._service}-{version}"
        live = self._cluster.get(*DEPLOYMENT, name)
        if live is not None and live["spec"]["replicas"] != replicas:
            self._cluster.patch(*DEPLOYMENT, name, {"spec": {"replicas": replicas}})

    def _wait_until_ready(self, version: str) -> None:
        name, started, said = f"{self._service}-{version}", time.monotonic(), ""
        no_image_since = None
        while True:
            live = self._cluster.get(*DEPLOYMENT, name)
            if live is None:
                raise RolloutError(f"Deployment {name} was deleted meanwhile")
            if _is_ready(live):
                return
            found = self._cluster.find("v1", "Pod", f"{SERVICE_LABEL}={self._service},{VERSION_LABEL}={version}")
            if reason := pods.hopeless(self._cluster, found):
                raise RolloutError(reason)
            text, no_image = pods.trouble(self._cluster, found, live)
            now = time.monotonic()
            no_image_since = (no_image_since or now) if no_image else None
            if now - started > self._patience.ready or (no_image and now - no_image_since > self._patience.image):
                raise RolloutError(f"not ready after {now - started:.0f} s: {text}")
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


def _pods_to_start(before: Versions, replicas: int) -> int:
    """As many as were asked for; as many as the version in service has, if its autoscaler made more of them."""
    return max(replicas, before.pods) if before.pods > before.minimum else replicas


def _next(before: Versions, version: str, replicas: int) -> Versions:
    """`version` in service. Deployed again, a version keeps the previous one that it had."""
    same = before.main == version
    previous = before.previous if same else before.main
    since = (before.since if same else "") or objects.now()
    return Versions(main=version, previous=previous, since=since, minimum=replicas)


def _is_ready(live: Object) -> bool:
    status, wanted = live.get("status", {}), live["spec"]["replicas"]
    seen = status.get("observedGeneration", 0) >= live["metadata"]["generation"]
    counts = [status.get(name, 0) for name in ("updatedReplicas", "readyReplicas", "availableReplicas")]
    # `replicas` still counts pods of an older form: they must be gone, or the smoke test may ask them.
    return seen and min(counts) >= wanted and status.get("replicas", 0) == status.get("updatedReplicas", 0)
