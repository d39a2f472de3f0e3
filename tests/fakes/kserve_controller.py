"""KServe's controller, played: on Knative, or in raw mode. Its pods are real servers, reached as in the cluster.

As the real one (kserve 0.15, ksvc_reconciler.go and inference_service_status.go): `Ready` is that of the version that
serves, so it stays true while a new one starts; `observedGeneration` is that of another object; the addresses of the
traffic's parts are those outside of the cluster; a new revision gets all traffic but for a canaryTrafficPercent.
"""

import copy
import time
from urllib.parse import urlsplit

import kubernetes_validate

from components.artifacts.service import KSERVE_KIND
from components.serve.kserve import REVISION_LABEL, model_of
from tests.fakes import knative
from tests.fakes.fronts import Fronts
from tests.fakes.kube_api import KubeApi
from tests.fakes.kube_objects import SCHEMA_VERSION, Object

_SERVICE = "serving.kserve.io/inferenceservice"


class Controller:
    """Plays for one InferenceService; use it as a context manager.

    Attributes:
        addresses: model's URI -> URL of a real server with it; a model without one is never ready.
        raw: whether there is no Knative.
        late: seconds after which a change of the traffic, or a new address, is known to those who connect.
        split: (revision, percent) as the newest change left it.
    """

    def __init__(self, kube: KubeApi, addresses: dict[str, str], raw: bool = False, late: float = 0) -> None:
        self._kube, self.addresses, self.raw, self.late = kube, dict(addresses), raw, late
        self._fronts = Fronts(self._route)
        self._templates: list[tuple[str, Object]] = []  # (revision, predictor without its share of the traffic)
        self._rolled_out = ""
        self._history: list[tuple[float, list[tuple[str, int]]]] = []
        self._connections = 0
        kube.controllers.append(self._hear)

    def __enter__(self) -> "Controller":
        return self

    def __exit__(self, *_: object) -> None:
        self._fronts.close()

    @property
    def split(self) -> list[tuple[str, int]]:
        return self._history[-1][1]

    def reach(self, url: str) -> str:
        """Where a URL of the cluster leads from here."""
        return self._fronts.url(urlsplit(url).netloc)

    def model(self, revision: str) -> str:
        """The URI of the model of a revision."""
        return model_of(dict(self._templates)[revision]).uri

    def _hear(self, event: str, live: Object) -> None:
        if live["kind"] != KSERVE_KIND[1]:
            return
        if event == "DELETED":
            for pod in self._kube.all("Pod"):
                self._kube.remove("Pod", pod["metadata"]["name"], final=True)
        elif live["metadata"]["generation"] != live.get("status", {}).get("seen"):
            self._reconcile(live)

    def _reconcile(self, live: Object) -> None:
        wanted = copy.deepcopy(live["spec"]["predictor"])
        percent = wanted.pop("canaryTrafficPercent", None)
        if refused := [] if self.raw else knative.refusals(wanted):
            return self._warn(live, f'admission webhook "validation.webhook.serving.knative.dev" denied: {refused}')
        _check_pod(wanted)
        template = {"labels": live["metadata"]["labels"], "notes": live["metadata"]["annotations"], **wanted}
        if not self._templates or self._templates[-1][1] != template:
            self._templates.append((f"colours-predictor-{len(self._templates) + 1:05}", template))
        revision = self._templates[-1][0]
        ready = self._make_pod(live, revision, wanted)
        if ready:
            self._move(revision, percent)
        self._report(live, "" if ready else "the model cannot be loaded")
        return None

    def _make_pod(self, live: Object, revision: str, wanted: Object) -> bool:
        ready = model_of(wanted).uri in self.addresses
        labels = live["metadata"]["labels"] | {_SERVICE: live["metadata"]["name"]}
        labels |= {} if self.raw else {REVISION_LABEL: revision}
        container = {"name": "kserve-container", "ready": ready, "restartCount": 0, "image": "i", "imageID": "i"}
        conditions = [{"type": "Ready", "status": str(ready)}]
        status = {"phase": "Running", "containerStatuses": [container], "conditions": conditions}
        metadata = {"name": f"{revision}-0", "labels": labels}
        for pod in self._kube.all("Pod") if self.raw and ready else ():
            self._kube.remove("Pod", pod["metadata"]["name"], final=True)
        self._kube.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}, "status": status})
        return ready

    def _move(self, revision: str, percent: int | None) -> None:
        if percent is None or not self._rolled_out or self.raw:
            self._rolled_out, split = revision, [(revision, 100)]
        else:
            split = [(revision, percent), (self._rolled_out, 100 - percent)]
        self._history.append((time.monotonic(), split))

    def _report(self, live: Object, problem: str) -> None:
        serves = bool(self._history)
        host = "colours-predictor" if self.raw else "colours"
        outside = {"url": "https://colours-predictor-kubeflow.example.com", "latestRevision": True}
        status = {
            "seen": live["metadata"]["generation"],
            "observedGeneration": 1,
            "conditions": [{"type": "Ready", "status": str(serves), "message": "" if serves else problem}],
            "components": {"predictor": {} if self.raw else {"traffic": [outside]}},
        }
        if serves:
            status["address"] = {"url": f"http://{host}.kubeflow.svc.cluster.local"}
        self._kube.change(KSERVE_KIND[1], live["metadata"]["name"], lambda obj: obj.update(status=status))

    def _warn(self, live: Object, message: str) -> None:
        name = live["metadata"]["name"]
        involved = {"kind": KSERVE_KIND[1], "name": name, "namespace": self._kube.namespace}
        content = {"involvedObject": involved, "type": "Warning", "reason": "InternalError", "message": message}
        self._kube.put({"apiVersion": "v1", "kind": "Event", "metadata": {"name": f"{name}.1"}, **content})

    def _route(self, host: str) -> int | None:
        name, _, domain = host.partition(".")
        assert domain == "kubeflow.svc.cluster.local", f"{host} is no address inside the cluster"
        revisions = dict(self._templates)
        if name not in revisions:
            known = [split for when, split in self._history if time.monotonic() - when >= self.late]
            if not known:
                return None
            self._connections += 1
            turn = self._connections * 37 % 100
            name = next((revision for revision, share in known[-1] if turn < share), known[-1][-1][0])
        return urlsplit(self.addresses[model_of(revisions[name]).uri]).port


def _check_pod(predictor: Object) -> None:
    """KServe's schema of a predictor is that of a pod, and its own fields."""
    own = ("minReplicas", "maxReplicas", "canaryTrafficPercent")
    spec = {name: value for name, value in predictor.items() if name not in own}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
    kubernetes_validate.validate(pod, SCHEMA_VERSION, strict=True)
