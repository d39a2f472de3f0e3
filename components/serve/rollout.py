"""Puts a version of the server beside the one in service, tries it, and moves the traffic; or takes it all back.

What is in service stands in the Service that people call (objects.Versions): in its selector, and in its annotations
what a rollback and the end of a canary go back to. The Deployments hold the rest.

Two runs may deploy under one name at once. The run that was created later wins, in whatever order they end: that
Service has its time, and is changed only by who has read it as it is. Whom another run has overtaken tries again, or
gives way.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from components.artifacts.service import (
    CANARY_ANNOTATION,
    CREATED_ANNOTATION,
    MAIN_ANNOTATION,
    MINIMUM_ANNOTATION,
    PODS_ANNOTATION,
    PREVIOUS_ANNOTATION,
    SERVICE_LABEL,
    SINCE_ANNOTATION,
    VERSION_LABEL,
)
from components.serve import objects, pods
from components.serve.deployment import MOST_CANARY_PODS, SmokeResult
from components.serve.objects import Inherited, Model, Versions
from components.shared import kubernetes
from components.shared.errors import PipelineError, TransientError
from components.shared.kubernetes import Cluster, ClusterError, Conflict, Forbidden, Object

DEPLOYMENT, SERVICE = ("apps/v1", "Deployment"), ("v1", "Service")
AUTOSCALER = ("autoscaling/v2", "HorizontalPodAutoscaler")
BUDGET = ("policy/v1", "PodDisruptionBudget")
# Versions that stay, without pods, to be rolled back to.
HISTORY = 3
# How often a rollout begins again because another run has changed the service meanwhile.
_ATTEMPTS = 5
Smoke = Callable[[str], SmokeResult]


@dataclass(frozen=True)
class Timeouts:
    """In seconds.

    Attributes:
        poll: Between two requests for the state.
        image: Until an image that cannot be pulled is given up.
        ready: Until all pods must be ready.
    """

    poll: float = 2
    image: float = 120
    ready: float = 900


class RolloutError(PipelineError):
    """The new version does not start or answers wrongly; what was in service before still is."""


class Superseded(RolloutError):
    """A newer run has deployed under this name: its version stays in service."""


@dataclass(frozen=True)
class _Before:
    """What a failed rollout goes back to: the versions, the autoscaler, and the new version's own Deployment."""

    versions: Versions
    autoscaler: Object | None
    deployment: Object | None


class Rollout:
    """The versions of one service on a cluster."""

    def __init__(self, cluster: Cluster, service: str, timeouts: Timeouts = Timeouts()) -> None:
        self._cluster, self._service, self._timeouts = cluster, service, timeouts
        self._reserved = ""  # revision of the Service that this rollout has created

    def deploy(
        self, model: Model, image: str, replicas: int, canary_percent: int, inherited: Inherited, smoke: Smoke
    ) -> tuple[str, str, SmokeResult]:
        """Deploys a version; returns its name, what share of the traffic it has, and the smoke test's result.

        Args:
            smoke: tries the server behind a URL, which may still lead nowhere; raises PipelineError if it is not good.

        Raises:
            Superseded: a run that was created later has deployed under this name.
            RolloutError: it did not work out; the version that was in service still is.
        """
        version = objects.version_of(model, image)
        own = self._cluster.get(*DEPLOYMENT, f"{self._service}-{version}")
        for attempt in range(_ATTEMPTS):
            before = None
            try:
                if self.versions().canary:
                    self._end_canary(keep=version)
                before = _Before(self.versions(), self._autoscaler(), own)
                _check_order(before.versions, version, inherited.created)
                wanted = (model, image, replicas, canary_percent)
                return version, *self._put(version, before.versions, wanted, inherited, smoke)
            except BaseException as error:
                if attempt < _ATTEMPTS - 1 and self._is_overtaken(error, version, before):
                    print(f"another run has changed {self._service} meanwhile, trying again: {error}", flush=True)
                    continue
                self._take_back(version, before or _Before(self.versions(), self._autoscaler(), own), error)
                raise
        raise AssertionError("the last attempt returns or raises")

    def _put(
        self, version: str, before: Versions, wanted: tuple[Model, str, int, int], inherited: Inherited, smoke: Smoke
    ) -> tuple[str, SmokeResult]:
        """Starts the version, tries it and moves the traffic. Raises Conflict: the service has changed meanwhile."""
        model, image, replicas, canary_percent = wanted
        before = replace(before, created=max(before.created, inherited.created))
        pods_wanted = _pods_to_start(before, replicas)
        canary = canary_percent % 100 and before.main not in ("", version)
        old, new = canary_pods(canary_percent, pods_wanted) if canary else (0, pods_wanted)
        self._cluster.apply(objects.deployment(self._service, version, model, image, new, inherited))
        self._cluster.apply(objects.version_service(self._service, version))
        self._wait_until_ready(version)
        result = smoke(self.url(f"{self._service}-{version}"))
        if canary:
            return self._start_canary(before, version, old, new), result
        self._switch(_next(before, version, replicas))
        smoke(self.public_url)
        self._retire(keep=(version,), until=inherited.created)
        return "all of the traffic", result

    def _is_overtaken(self, error: BaseException, version: str, before: _Before | None) -> bool:
        """Whether a failure may come from another run, which has put its own version into service meanwhile."""
        if isinstance(error, Conflict):
            return True
        if before is None or isinstance(error, (Superseded, TransientError)) or not isinstance(error, PipelineError):
            return False
        return self.versions().main not in (before.versions.main, version)

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
        try:
            self._switch(_next(now, previous, now.minimum))
        except Conflict as error:
            self._scale(previous, 0)
            raise RolloutError(f"a run has changed {self._service} meanwhile: start the rollback again") from error
        self._retire(keep=(previous,))
        return previous, now.main

    def versions(self) -> Versions:
        """What is in service now. Raises RolloutError if there is a Service of that name that is not ours."""
        found = self._cluster.get(*SERVICE, self._service)
        if found is None:
            return Versions()
        selector, notes = found["spec"].get("selector") or {}, found["metadata"].get("annotations") or {}
        revision = kubernetes.revision(found)
        if not selector and SERVICE_LABEL in found["metadata"].get("labels", {}):
            return Versions(revision=revision)  # another run has just taken the name: objects.reserved_service
        if SERVICE_LABEL not in selector:
            raise RolloutError(f"there is another Service called {self._service}: choose another with serve_name=")
        main = selector.get(VERSION_LABEL) or notes.get(MAIN_ANNOTATION, "")
        live = self._cluster.get(*DEPLOYMENT, f"{self._service}-{main}")
        running = live["spec"]["replicas"] if live else 0
        return Versions(
            main=main,
            previous=notes.get(PREVIOUS_ANNOTATION, ""),
            canary=notes.get(CANARY_ANNOTATION, ""),
            since=notes.get(SINCE_ANNOTATION, ""),
            created=notes.get(CREATED_ANNOTATION, ""),
            minimum=int(notes.get(MINIMUM_ANNOTATION, running) or 1),
            pods=int(notes.get(PODS_ANNOTATION, running)),
            revision=revision,
        )

    @property
    def public_url(self) -> str:
        """What people of the cluster call."""
        return self.url(self._service)

    def url(self, name: str) -> str:
        """Where a Service of this namespace is reached from a pod."""
        return f"http://{name}.{self._cluster.namespace}.svc"

    def _publish(self, wanted: Versions) -> None:
        """Says in the Service that people call what is in service. Raises Conflict: it is not at `wanted.revision`."""
        revision = wanted.revision
        if not revision:
            revision = kubernetes.revision(self._cluster.create(objects.reserved_service(self._service)))
            self._reserved = revision
        self._cluster.apply(objects.public_service(self._service, wanted), revision)

    def _switch(self, wanted: Versions) -> None:
        """All traffic to `wanted.main`. Raises Conflict: as _publish."""
        self._publish(wanted)
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
            self._publish(replace(before, canary=version))
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
            self._retried_undo(version, before)
            main = self.versions().main
        except PipelineError as error:
            message = f"version {version} failed ({cause}) and could not be taken back: {error}"
            raise RolloutError(f"{message}; delete Deployment {self._service}-{version} yourself") from error
        if isinstance(cause, PipelineError):
            kind = Superseded if isinstance(cause, Superseded) else RolloutError
            raise kind(f"version {version} was taken back: {cause}; {self._still(main)}") from cause

    def _retried_undo(self, version: str, before: _Before) -> None:
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._undo(version, before)
            except Conflict:  # another run is at it: look again at what there is
                time.sleep(self._timeouts.poll)
        self._undo(version, before)

    def _undo(self, version: str, before: _Before) -> None:
        now, was = self.versions(), before.versions
        if not was.main and (now.main == version or now.revision and now.revision == self._reserved):
            self._cluster.delete(*SERVICE, self._service)
            self._drop(AUTOSCALER, BUDGET)
        elif was.main and (version in (now.main, now.canary) or now.main == was.main):
            self._publish(replace(was, revision=now.revision))
            if before.autoscaler:
                self._extra(objects.again(before.autoscaler))
            elif now.main == version:
                self._drop(AUTOSCALER)
        if before.deployment:
            self._cluster.apply(objects.again(before.deployment))
        now = self.versions()
        if version in (now.main, now.canary):  # deployed again, or by another run as well
            return
        if before.deployment:
            return self._scale(version, 0)
        self._cluster.delete(*DEPLOYMENT, f"{self._service}-{version}")
        self._cluster.delete(*SERVICE, f"{self._service}-{version}")

    def _retire(self, keep: tuple[str, ...], until: str = "") -> None:
        """Takes the pods from all versions but `keep`, and all else from the oldest.

        Args:
            until: leaves alone what a run deploys that was created later; empty for all.
        """
        found = self._cluster.find(*DEPLOYMENT, f"{SERVICE_LABEL}={self._service}")
        if until:
            found = [entry for entry in found if _created(entry) <= until]
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
        name, started, said = f"{self._service}-{version}", time.monotonic(), set()
        no_image_since = 0.0
        while True:
            live = self._cluster.get(*DEPLOYMENT, name)
            if live is None:
                raise RolloutError(f"Deployment {name} was deleted meanwhile")
            if not live["spec"]["replicas"]:
                raise RolloutError(f"another run has taken the pods of {name}")
            if _is_ready(live):
                return
            found = self._cluster.find("v1", "Pod", f"{SERVICE_LABEL}={self._service},{VERSION_LABEL}={version}")
            if reason := pods.permanent_failure(self._cluster, found):
                raise RolloutError(reason)
            text, no_image = pods.waiting_for(self._cluster, found, live)
            now = time.monotonic()
            no_image_since = (no_image_since or now) if no_image else 0.0
            if now - started > self._timeouts.ready or (no_image and now - no_image_since > self._timeouts.image):
                raise RolloutError(f"not ready after {now - started:.0f} s: {text}")
            if text not in said:  # an image that is pulled again and again has two reasons in turn
                print(f"waiting for {name}: {text}", flush=True)
            said.add(text)
            time.sleep(self._timeouts.poll)

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


def _check_order(before: Versions, version: str, created: str) -> None:
    """Raises Superseded: what is in service is of a run that was created after `created`, and is another version."""
    if before.created > created and before.main != version:
        raise Superseded(f"a newer run (of {before.created}) has deployed {before.main}")


def _created(deployment: Object) -> str:
    """When the run was created that deployed it, as ISO 8601; empty if that was not noted."""
    return (deployment["metadata"].get("annotations") or {}).get(CREATED_ANNOTATION, "")


def _next(before: Versions, version: str, replicas: int) -> Versions:
    """`version` in service. Deployed again, a version keeps the previous one that it had."""
    same = before.main == version
    previous = before.previous if same else before.main
    since = (before.since if same else "") or objects.now()
    return replace(before, main=version, previous=previous, canary="", since=since, minimum=replicas)


def _is_ready(live: Object) -> bool:
    status, wanted = live.get("status", {}), live["spec"]["replicas"]
    seen = status.get("observedGeneration", 0) >= live["metadata"]["generation"]
    counts = [status.get(name, 0) for name in ("updatedReplicas", "readyReplicas", "availableReplicas")]
    # `replicas` still counts pods of an older form: they must be gone, or the smoke test may ask them.
    return seen and min(counts) >= wanted and status.get("replicas", 0) == status.get("updatedReplicas", 0)
