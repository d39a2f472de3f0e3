"""A thin Kubernetes client: objects are plain dictionaries, as in YAML.

Dictionaries, not the client's typed models: those drop every field that is newer than the client, and what is copied
from a running pod must arrive whole. Authentication, TLS and token rotation are the official client's.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.shared.errors import PipelineError, TransientError
from components.shared.retries import attempts, doubling

Object = dict[str, Any]

FIELD_MANAGER = "museum-classifier"
# KFP names every step's own container so (it is Argo's name for it).
STEP_CONTAINER = "main"
# Volumes that Argo, KFP and the service account's admission add to a step's pod. Pods that a step makes get their own,
# or need none: argo-env-config is a ConfigMap that goes with the run, and a server that named it could not start again.
STEP_VOLUMES = re.compile(
    r"var-run-argo|tmp-dir-argo|argo-env-config|kfp-launcher|input-artifacts|(gcs|s3|minio)-scratch|kube-api-access"
)
# Reasons for which a container waits that time alone does not lift: of its image, or of what its spec names.
CANNOT_START = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
)
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_IRREGULAR_PLURALS = {"NetworkPolicy": "networkpolicies", "Ingress": "ingresses"}
# Every ServiceAccount is in these.
_GROUPS = ("system:serviceaccounts", "system:authenticated")
_TIMEOUT = (5, 30)  # seconds to connect, seconds to read
_PASSING = (409, 429, 500, 502, 503, 504)
_ATTEMPTS = 8  # about a minute in all: an API server that restarts is back by then


class ClusterError(PipelineError):
    """The cluster refuses a request; the message names the object, the reason and what to do."""


class Forbidden(ClusterError):
    """This account may not do that (401, 403)."""


class Conflict(ClusterError):
    """The object is not any more what the caller has read, or, to be created, is there already (409)."""


class NotThere(ClusterError):
    """There is no such thing (404); of a list: the cluster knows no such kind of object."""


def in_step() -> bool:
    """Whether this process is a step of a run on a cluster.

    A notebook is a pod too, but its files are not where other pods find them; only KFP's steps have KFP_POD_NAME.
    """
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST") and os.environ.get("KFP_POD_NAME"))


@dataclass(frozen=True)
class Cluster:
    """One namespace of a cluster; `api` is a `kubernetes.client.ApiClient`; requests are tried `attempts` times."""

    api: Any
    namespace: str
    attempts: int = _ATTEMPTS

    def apply(self, manifest: Object, revision: str = "") -> Object:
        """Creates the object, or changes it to what `manifest` says (server-side apply); returns it as stored.

        Args:
            revision: the object's revision() as the caller has read it; empty if that does not matter.

        Raises:
            Conflict: it has another one by now, or is gone.
        """
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        if revision:
            uid, _, number = revision.partition(" ")
            # With the resourceVersion alone the server would create again what somebody has deleted meanwhile.
            known = {"uid": uid, "resourceVersion": number}
            manifest = {**manifest, "metadata": {**manifest["metadata"], **known}}
        return self._call("PATCH", *_reference(manifest), query=query, body=manifest, exclusive=bool(revision))

    def create(self, manifest: Object) -> Object:
        """Creates the object and returns it as stored. Raises Conflict: there is one of that name."""
        version, kind, _ = _reference(manifest)
        query = {"fieldManager": FIELD_MANAGER}
        return self._call("POST", version, kind, "", query=query, body=manifest, media=_JSON, exclusive=True)

    def patch(self, api_version: str, kind: str, name: str, change: Object) -> Object:
        """Changes only the fields that `change` names (a merge patch) of an object that is there; returns it."""
        return self._call("PATCH", api_version, kind, name, {"fieldManager": FIELD_MANAGER}, change, media=_MERGE)

    def get(self, api_version: str, kind: str, name: str) -> Object | None:
        """The object, or None if there is none."""
        return self._call("GET", api_version, kind, name, absent_is_fine=True)

    def find(self, api_version: str, kind: str, selector: str = "", fields: str = "") -> list[Object]:
        """All objects of `kind` with the labels (`a=1,b=2`) and fields that the selectors name."""
        query = {"labelSelector": selector, "fieldSelector": fields}
        found = self._call("GET", api_version, kind, "", query={name: text for name, text in query.items() if text})
        return [{"apiVersion": api_version, "kind": kind, **item} for item in found["items"]]

    def look(self, path: str, **query: str) -> Object:
        """What stands at any `path` of the API: nodes, other namespaces, kinds. Raises NotThere, ClusterError."""
        return self._send("GET", path, path, query)

    def may(self, account: str, verb: str, group: str, resource: str, name: str = "") -> bool:
        """Whether a ServiceAccount of this namespace has a right here; asking changes nothing. Raises Forbidden."""
        resource, _, part = resource.partition("/")
        wanted = {"namespace": self.namespace, "verb": verb, "group": group, "resource": resource}
        wanted |= {"subresource": part, "name": name}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "LocalSubjectAccessReview",
            "metadata": {"namespace": self.namespace},
            "spec": {
                "user": f"system:serviceaccount:{self.namespace}:{account}",
                "groups": [*_GROUPS, f"system:serviceaccounts:{self.namespace}"],
                "resourceAttributes": {key: text for key, text in wanted.items() if text},
            },
        }
        path = f"/apis/authorization.k8s.io/v1/namespaces/{self.namespace}/localsubjectaccessreviews"
        found = self._send("POST", path, f"a review of what {account} may do", body=body, media=_JSON)
        return bool(found["status"]["allowed"])

    def delete(self, api_version: str, kind: str, name: str) -> None:
        """Deletes the object and, after it, all that it owns; that there is none is fine."""
        self._call("DELETE", api_version, kind, name, query={"propagationPolicy": "Background"}, absent_is_fine=True)

    def log(self, pod: str, container: str, tail: int | None = None, previous: bool = False) -> list[str]:
        """The last `tail` lines of a container, all if None, of its `previous` life if wanted; empty if gone."""
        query = {"container": container} | ({"tailLines": str(tail)} if tail else {})
        query |= {"previous": "true"} if previous else {}
        response = self._log(pod, query)
        return response.data.decode(errors="replace").splitlines() if response else []

    def follow_log(self, pod: str, container: str, since: str = "") -> Iterator[tuple[str, str]]:
        """(timestamp, line) as they are printed, later than timestamp `since`; ends when the connection does."""
        query = {"container": container, "follow": "true", "timestamps": "true"}
        # sinceTime counts whole seconds, so a reconnect gets some lines again: timestamps tell which.
        response = self._log(pod, query | ({"sinceTime": since} if since else {}), stream=True)
        for raw in _lines(response) if response else ():
            timestamp, _, line = raw.partition(" ")
            if timestamp > since:
                yield timestamp, line

    def own_pod(self) -> Object:
        """The pod that this process runs in. Raises ClusterError if it cannot be read."""
        # A host name is cut to 63 characters and pod names are longer, so KFP's variable comes first.
        name = os.environ.get("KFP_POD_NAME") or os.environ.get("HOSTNAME", "")
        pod = self.get("v1", "Pod", name) if name else None
        if pod is None:
            raise ClusterError(f"there is no pod {name!r} in namespace {self.namespace}: is this process in a pod?")
        return pod

    def _log(self, pod: str, query: dict[str, str], stream: bool = False) -> Any:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return self._request("GET", f"{self._path('v1', 'Pod', pod)}/log", query, None, raw=True, stream=stream)
        except (ApiException, HTTPError):
            return None  # not started, gone with its node, or the connection broke: the caller looks again

    def _call(self, method: str, api_version: str, kind: str, name: str, query=None, body=None, **options: Any) -> Any:
        what = f"{kind} {name} in {self.namespace}" if name else f"{kind}s in {self.namespace}"
        return self._send(method, self._path(api_version, kind, name), what, query, body, **options)

    def _send(
        self, method: str, path: str, what: str, query=None, body=None, absent_is_fine=False, media="", exclusive=False
    ) -> Any:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        cause = ""
        for _ in attempts(doubling(0.25, 15, self.attempts - 1)):
            try:
                return self._request(method, path, query or {}, body, media=media or _APPLY)
            except ApiException as error:
                if error.status == 404 and absent_is_fine:
                    return None
                cause = _explain(error)
                if error.status == 409 and exclusive:
                    raise Conflict(f"cannot {_VERBS[method]} {what}: {cause}") from error
                if error.status not in _PASSING:
                    refused = _REFUSALS.get(error.status, ClusterError)
                    raise refused(f"cannot {_VERBS[method]} {what}: {cause}") from error
            except HTTPError as error:
                cause = str(error)
        raise TransientError(f"cannot {_VERBS[method]} {what}: {cause}; try again")

    def _request(
        self, method: str, path: str, query: dict, body: Object | None, raw=False, stream=False, media=""
    ) -> Any:
        headers = {"Content-Type": media} if body else {}
        return self.api.call_api(
            path,
            method,
            query_params=list(query.items()),
            header_params={"Accept": "*/*" if raw else "application/json", **headers},
            body=body,
            response_type=None if raw else "object",
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
            _preload_content=not raw,
            _request_timeout=(5, 60) if stream else _TIMEOUT,
        )

    def _path(self, api_version: str, kind: str, name: str) -> str:
        root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        plural = _IRREGULAR_PLURALS.get(kind, kind.lower() + "s")
        return f"{root}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")


_REFUSALS = {401: Forbidden, 403: Forbidden, 404: NotThere}
_VERBS = {"GET": "read", "POST": "create", "PATCH": "apply", "DELETE": "delete"}
# JSON is YAML: the client sends the dictionary as JSON and the apply media type takes it.
_APPLY, _MERGE, _JSON = "application/apply-patch+yaml", "application/merge-patch+json", "application/json"


def connect(kubeconfig: str = "", context: str = "", namespace: str = "", attempts: int = 0) -> Cluster:
    """The cluster of `kubeconfig` or else $KUBECONFIG; the one that this process runs in; that of ~/.kube/config.

    Args:
        context: of the kubeconfig; empty for its current one.
        namespace: empty for the context's own, or that of the pod.

    Raises:
        ClusterError: there is no cluster, or no such file or context.
    """
    from kubernetes import client, config

    configuration = client.Configuration()
    configuration.retries = False  # _call has its own, with pauses; urllib3's come at once and print a warning each
    file = kubeconfig or os.environ.get("KUBECONFIG", "")
    in_pod = bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
    if not file and (context or not in_pod):
        file = str(Path("~/.kube/config").expanduser())
    try:
        if file:
            config.load_kube_config(file, context or None, client_configuration=configuration)
            own = _namespace(config.list_kube_config_contexts(file), context)
        else:
            config.load_incluster_config(client_configuration=configuration)
            own = _NAMESPACE_FILE.read_text().strip()
    except (config.ConfigException, OSError) as error:
        raise ClusterError(f"no Kubernetes cluster to talk to: {error}; run in a pod, or set KUBECONFIG") from error
    return Cluster(client.ApiClient(configuration), namespace or own, attempts or _ATTEMPTS)


def _namespace(contexts: tuple[list[Object], Object], name: str) -> str:
    every, current = contexts
    chosen = next((entry for entry in every if entry["name"] == name), current)
    return chosen["context"].get("namespace") or "default"


def revision(live: Object) -> str:
    """Which state of which object `live` is: another one after every change."""
    return f"{live['metadata']['uid']} {live['metadata']['resourceVersion']}"


def owner_reference(owner: Object) -> Object:
    """What makes an object go when `owner` goes."""
    metadata = owner["metadata"]
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }


def run_reference(pod: Object) -> Object:
    """The owner reference for what a step's pod creates: the Argo Workflow of the run, or else the pod.

    The Workflow outlives the retries of a step and goes when the run is deleted.
    """
    for owner in pod["metadata"].get("ownerReferences", []):
        if owner["kind"] == "Workflow":
            return {name: owner[name] for name in ("apiVersion", "kind", "name", "uid")}
    return owner_reference({"apiVersion": "v1", "kind": "Pod", **pod})


def condition(item: Object, kind: str) -> Object | None:
    """The object's condition of type `kind` if it is true."""
    conditions = item.get("status", {}).get("conditions") or []
    return next((entry for entry in conditions if entry["type"] == kind and entry["status"] == "True"), None)


def _reference(manifest: Object) -> tuple[str, str, str]:
    return manifest["apiVersion"], manifest["kind"], manifest["metadata"]["name"]


def _explain(error: Any) -> str:
    try:
        message = json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):
        body = " ".join(str(error.body or "").split())[:200]  # of a proxy, or of what is behind the API server's
        message = f"{error.reason or f'HTTP status {error.status}'}{f' ({body})' if body else ''}"
    hint = "; grant it (manifests/base/rbac)" if error.status in (401, 403) else ""
    return f"{message}{hint}"


def _lines(response: Any) -> Iterator[str]:
    from urllib3.exceptions import HTTPError

    rest = b""
    try:
        for chunk in response.stream(65536, decode_content=False):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)
    except HTTPError:
        return  # a half line comes again whole after the reconnect
    finally:
        response.release_conn()
