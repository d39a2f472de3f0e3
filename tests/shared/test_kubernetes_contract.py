"""What a Kubernetes API server does, as far as the project relies on it: the tests' own server, and a real one.

The real one is a cluster whose kubeconfig KUBE_APISERVER names; all happens in a namespace that is deleted afterwards.
"""

import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from components.shared import kubernetes
from components.shared.kubernetes import Cluster, Object, owner_reference
from tests.fakes.kube_api import KubeApi

REAL = os.environ.get("KUBE_APISERVER", "")
APPLY, MERGE, JSON = "application/apply-patch+yaml", "application/merge-patch+json", "application/json"
PAUSE = {"name": "main", "image": "registry.example/pause:1"}


@dataclass(frozen=True)
class Api:
    """A namespace of a cluster, by the project's client and by plain requests."""

    cluster: Cluster

    def path(self, plural: str, name: str = "", version: str = "v1") -> str:
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        return f"{root}/namespaces/{self.cluster.namespace}/{plural}" + (f"/{name}" if name else "")

    def ask(self, method: str, path: str, body: Object | None = None, media=JSON, **query: str) -> tuple[int, Any]:
        """Status and answer, a `Status` object where the server refuses."""
        from kubernetes.client import ApiException

        try:
            answer, status, _ = self.cluster.api.call_api(
                path, method, query_params=list(query.items()), body=body, response_type="object",
                header_params={"Accept": "application/json"} | ({"Content-Type": media} if body else {}),
                auth_settings=["BearerToken"], _request_timeout=(5, 30),
            )  # fmt: skip
            return status, answer
        except ApiException as error:
            return error.status, json.loads(error.body)

    def apply(self, obj: Object, plural: str, manager: str = "one", **query: str) -> tuple[int, Any]:
        path = self.path(plural, obj["metadata"]["name"], obj["apiVersion"])
        return self.ask("PATCH", path, obj, APPLY, fieldManager=manager, **query)

    def names(self, selector: str = "", fields: str = "") -> list[str]:
        return sorted(entry["metadata"]["name"] for entry in self.cluster.find("v1", "Secret", selector, fields))


def _namespace(cluster: Cluster, method: str, name: str = "", body: Object | None = None) -> None:
    cluster.api.call_api(
        f"/api/v1/namespaces{name and '/' + name}", method, body=body, response_type="object",
        header_params={"Accept": "application/json", "Content-Type": JSON}, auth_settings=["BearerToken"],
    )  # fmt: skip


@pytest.fixture(scope="module")
def real_cluster() -> Iterator[Cluster]:
    name = f"contract-{uuid.uuid4().hex[:8]}"
    cluster = kubernetes.connect(REAL, namespace=name)
    _namespace(cluster, "POST", body={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield cluster
    _namespace(cluster, "DELETE", name)


@pytest.fixture(params=["fake", "real"])
def api(request: pytest.FixtureRequest, tmp_path) -> Iterator[Api]:
    if request.param == "real":
        if not REAL:
            pytest.skip("KUBE_APISERVER names no cluster's kubeconfig")
        yield Api(request.getfixturevalue("real_cluster"))
    else:
        with KubeApi() as kube:
            yield Api(kubernetes.connect(kube.kubeconfig(tmp_path / "kubeconfig")))


@pytest.fixture
def name() -> str:
    """A name that no other test uses: they share the real namespace."""
    return f"test-{uuid.uuid4().hex[:8]}"


def secret(name: str, labels: dict[str, str] | None = None, **data: str) -> Object:
    metadata = {"name": name} | ({"labels": labels} if labels else {})
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


def deployment(name: str, *env: str, replicas: int = 0) -> Object:
    container = PAUSE | {"env": [{"name": variable, "value": "1"} for variable in env]}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def job(name: str) -> Object:
    template = {"spec": {"containers": [PAUSE], "restartPolicy": "Never"}}
    spec = {"suspend": True, "completions": 2, "parallelism": 2, "completionMode": "Indexed", "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def soon(condition) -> Any:
    """What `condition` returns once that is true."""
    until = time.monotonic() + 60
    while not (value := condition()):
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.05)
    return value


def test_what_is_applied_is_stored_with_what_the_server_adds(api, name):
    status, stored = api.apply(secret(name, a="MQ=="), "secrets")
    assert status == 201 and stored["data"] == {"a": "MQ=="}
    metadata = stored["metadata"]
    assert metadata["namespace"] == api.cluster.namespace
    assert all(metadata[field] for field in ("uid", "resourceVersion", "creationTimestamp"))
    assert api.cluster.get("v1", "Secret", name)["metadata"]["uid"] == metadata["uid"]


def test_applying_the_same_again_changes_nothing(api, name):
    _, first = api.apply(secret(name, a="MQ=="), "secrets")
    status, again = api.apply(secret(name, a="MQ=="), "secrets")
    assert status == 200
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_what_was_changed_or_deleted_meanwhile_is_not_applied(api, name):
    read = kubernetes.revision(api.cluster.apply(secret(name, a="MQ==")))
    changed = kubernetes.revision(api.cluster.apply(secret(name, a="Mg=="), read))
    with pytest.raises(kubernetes.Conflict):
        api.cluster.apply(secret(name, a="Mw=="), read)
    api.cluster.delete("v1", "Secret", name)
    with pytest.raises(kubernetes.Conflict, match="no existing object"):
        api.cluster.apply(secret(name, a="Mw=="), changed)
    assert api.cluster.get("v1", "Secret", name) is None


def test_apply_drops_what_the_manager_no_longer_names_and_keeps_what_others_named(api, name):
    api.apply(secret(name, a="MQ==", b="Mg=="), "secrets")
    api.apply(secret(name, other="OQ=="), "secrets", manager="two")
    _, stored = api.apply(secret(name, a="Mw=="), "secrets")
    assert stored["data"] == {"a": "Mw==", "other": "OQ=="}


def test_apply_merges_lists_by_their_key(api, name):
    api.apply(deployment(name, "A", "B"), "deployments")
    api.apply(deployment(name, "C"), "deployments", manager="two", force="true")
    _, stored = api.apply(deployment(name, "A"), "deployments", force="true")
    (container,) = stored["spec"]["template"]["spec"]["containers"]
    assert sorted(variable["name"] for variable in container["env"]) == ["A", "C"]


def test_apply_against_another_manager_is_a_conflict_unless_forced(api, name):
    api.apply(secret(name, a="MQ=="), "secrets", manager="two")
    status, refused = api.apply(secret(name, a="Mg=="), "secrets")
    assert (status, refused["reason"]) == (409, "Conflict") and '"two"' in refused["message"]
    status, stored = api.apply(secret(name, a="Mg=="), "secrets", force="true")
    assert status == 200 and stored["data"] == {"a": "Mg=="}


def test_apply_needs_a_manager_and_the_name_of_its_path(api, name):
    assert api.ask("PATCH", api.path("secrets", name), secret(name), APPLY)[0] in (400, 422)
    status, refused = api.ask("PATCH", api.path("secrets", "other"), secret(name), APPLY, fieldManager="one")
    assert (status, refused["reason"]) == (400, "BadRequest")


def test_merge_patch_removes_what_is_null_and_leaves_the_rest(api, name):
    api.apply(secret(name, {"colour": "red"}, a="MQ==", b="Mg=="), "secrets")
    status, stored = api.ask("PATCH", api.path("secrets", name), {"data": {"a": None, "c": "Mw=="}}, MERGE)
    assert status == 200 and stored["data"] == {"b": "Mg==", "c": "Mw=="}
    assert stored["metadata"]["labels"] == {"colour": "red"}


def test_merge_patch_of_what_is_not_there_is_not_found(api, name):
    status, refused = api.ask("PATCH", api.path("secrets", name), {"data": {"a": "MQ=="}}, MERGE)
    assert (status, refused["reason"], refused["kind"]) == (404, "NotFound", "Status") and name in refused["message"]


def test_creating_twice_is_refused(api, name):
    assert api.ask("POST", api.path("secrets"), secret(name))[0] == 201
    status, refused = api.ask("POST", api.path("secrets"), secret(name))
    assert (status, refused["reason"]) == (409, "AlreadyExists")


def test_replacing_an_older_state_is_a_conflict(api, name):
    _, old = api.ask("POST", api.path("secrets"), secret(name, a="MQ=="))
    status, new = api.ask("PUT", api.path("secrets", name), old | {"data": {"a": "Mg=="}})
    assert status == 200 and new["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"]
    status, refused = api.ask("PUT", api.path("secrets", name), old | {"data": {"a": "Mw=="}})
    assert (status, refused["reason"]) == (409, "Conflict")
    assert api.cluster.get("v1", "Secret", name)["data"] == {"a": "Mg=="}


def test_applying_to_another_state_than_the_one_that_was_read_is_a_conflict(api, name):
    _, old = api.apply(secret(name, a="MQ=="), "secrets")
    obj = secret(name, a="Mg==")
    obj["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
    assert api.apply(obj, "secrets", force="true")[0] == 200
    status, refused = api.apply(obj | {"data": {"a": "Mw=="}}, "secrets", force="true")
    assert (status, refused["reason"]) == (409, "Conflict")
    api.cluster.delete("v1", "Secret", name)
    assert api.apply(obj, "secrets", force="true")[0] == 201, "what has gone meanwhile is made anew"


def test_the_selectors_of_labels(api, name):
    for suffix, labels in (("a", {"colour": "red"}), ("b", {"colour": "blue", "size": "1"}), ("c", {"size": "1"})):
        api.apply(secret(f"{name}-{suffix}", labels | {"test": name}), "secrets")
    for selector, found in {
        "": "abc", "colour=red": "a", "colour==blue,size=1": "b", "colour!=red": "bc", "size": "bc", "!size": "a",
        "colour in (red,blue)": "ab", "colour notin (red)": "bc", "colour in (green)": "",
    }.items():  # fmt: skip
        assert api.names(f"test={name},{selector}".rstrip(",")) == [f"{name}-{suffix}" for suffix in found], selector


def test_the_selectors_of_fields(api, name):
    for suffix in "ab":
        api.apply(secret(f"{name}-{suffix}"), "secrets")
    assert api.names(fields=f"metadata.name={name}-a") == [f"{name}-a"]
    assert f"{name}-a" not in api.names(fields=f"metadata.name!={name}-a,type=Opaque")


def watch(api: Api, since: str, selector: str, seconds: int, seen: list[tuple[str, Object]]) -> None:
    query = {"watch": "true", "resourceVersion": since, "labelSelector": selector, "timeoutSeconds": str(seconds)}
    response = api.cluster.api.call_api(
        api.path("secrets"), "GET", query_params=list(query.items()), auth_settings=["BearerToken"],
        _preload_content=False, _return_http_data_only=True, _request_timeout=(5, 30),
    )  # fmt: skip
    rest = b""
    for chunk in response.stream(65536):
        *lines, rest = (rest + chunk).split(b"\n")
        seen += [(event["type"], event["object"]) for event in map(json.loads, lines)]


def test_a_watch_tells_what_happens_after_a_list_in_its_order(api, name):
    label = {"test": name}
    api.apply(secret(f"{name}-before", label), "secrets")
    _, listed = api.ask("GET", api.path("secrets"), labelSelector=f"test={name}")
    seen: list[tuple[str, Object]] = []
    arguments = (api, listed["metadata"]["resourceVersion"], f"test={name}", 20, seen)
    threading.Thread(target=watch, args=arguments, daemon=True).start()
    api.apply(secret(name, label), "secrets")
    api.apply(secret(name, label, a="MQ=="), "secrets")
    api.apply(secret(f"{name}-other"), "secrets")
    api.cluster.delete("v1", "Secret", name)
    soon(lambda: len(seen) >= 3)
    assert [(kind, obj["metadata"]["name"]) for kind, obj in seen] == [
        ("ADDED", name), ("MODIFIED", name), ("DELETED", name)
    ]  # fmt: skip
    assert seen[1][1]["data"] == {"a": "MQ=="}


def test_for_a_watch_what_leaves_the_selection_is_deleted(api, name):
    _, stored = api.apply(secret(name, {"test": name}), "secrets")
    seen: list[tuple[str, Object]] = []
    arguments = (api, stored["metadata"]["resourceVersion"], f"test={name}", 20, seen)
    threading.Thread(target=watch, args=arguments, daemon=True).start()
    api.apply(secret(name, {"test": "no-more"}), "secrets")
    soon(lambda: seen)
    assert seen[0][0] == "DELETED"


def test_a_watch_ends_when_its_time_is_over(api, name):
    seen: list[tuple[str, Object]] = []
    begin = time.monotonic()
    watch(api, "", f"test={name}", 1, seen)
    assert seen == [] and time.monotonic() - begin >= 0.9


def test_what_an_object_owns_goes_after_it_unless_another_owner_is_left(api, name):
    owners = [api.apply(secret(f"{name}-{suffix}"), "secrets")[1] for suffix in "ab"]
    references = [owner_reference({"apiVersion": "v1", "kind": "Secret", **owner}) for owner in owners]
    for suffix, owned_by in (("one", references[:1]), ("both", references)):
        obj = secret(f"{name}-{suffix}", {"test": name})
        obj["metadata"]["ownerReferences"] = owned_by
        api.apply(obj, "secrets")
    api.cluster.delete("v1", "Secret", f"{name}-a")
    soon(lambda: api.names(f"test={name}") == [f"{name}-both"])
    api.cluster.delete("v1", "Secret", f"{name}-b")
    soon(lambda: api.names(f"test={name}") == [])


def test_deleting_what_is_not_there_is_not_found(api, name):
    status, refused = api.ask("DELETE", api.path("secrets", name), propagationPolicy="Background")
    assert (status, refused["reason"]) == (404, "NotFound")
    api.cluster.delete("v1", "Secret", name)


def test_the_status_changes_by_its_own_path_only(api, name):
    api.apply(job(name), "jobs")
    path = api.path("jobs", name, "batch/v1")
    change = {"metadata": {"labels": {"seen": "yes"}}, "status": {"ready": 7}}
    _, stored = api.ask("PATCH", path, change, MERGE)
    assert stored["metadata"]["labels"]["seen"] == "yes" and stored.get("status", {}).get("ready", 0) != 7
    status, stored = api.ask("PATCH", f"{path}/status", {"spec": {"parallelism": 1}, "status": {"failed": 3}}, MERGE)
    assert status == 200 and stored["status"]["failed"] == 3 and stored["spec"]["parallelism"] == 2


def test_the_generation_counts_changes_of_the_spec_only(api, name):
    _, first = api.apply(deployment(name, "A"), "deployments")
    path = api.path("deployments", name, "apps/v1")
    _, labelled = api.ask("PATCH", path, {"metadata": {"labels": {"a": "b"}}}, MERGE)
    _, changed = api.ask("PATCH", path, {"spec": {"minReadySeconds": 5}}, MERGE)
    assert [entry["metadata"]["generation"] for entry in (first, labelled, changed)] == [1, 1, 2]


@pytest.mark.parametrize(
    "obj, plural, change",
    [
        (deployment, "deployments", {"selector": {"matchLabels": {"app": "another"}}}),
        (job, "jobs", {"completionMode": "NonIndexed"}),
        (job, "jobs", {"template": {"spec": {"containers": [PAUSE | {"image": "another"}]}}}),
    ],
    ids=["selector", "completionMode", "template"],
)
def test_fields_that_nobody_may_change(api, name, obj, plural, change):
    _, stored = api.apply(obj(name), plural)
    # Of a suspended Job that has never started, pods may be changed: this one has.
    if plural == "jobs":
        path = api.path(plural, name, "batch/v1")
        api.ask("PATCH", path, {"spec": {"suspend": False}}, MERGE)
    status, refused = api.ask("PATCH", api.path(plural, name, stored["apiVersion"]), {"spec": change}, MERGE)
    assert (status, refused["reason"]) == (422, "Invalid")


def test_what_the_schema_does_not_have_or_the_name_cannot_be_is_refused(api, name):
    status, refused = api.apply(secret(name) | {"dat": {}}, "secrets")
    assert 400 <= status <= 500 and "dat" in refused["message"]
    status, refused = api.ask("POST", api.path("secrets"), secret(f"{name}_X"))
    assert (status, refused["reason"]) == (422, "Invalid")


def test_a_pod_that_cannot_start_is_pending_and_has_no_log(api, name):
    spec = {"containers": [PAUSE], "nodeSelector": {"no": "such-node"}, "automountServiceAccountToken": False}
    spec |= {"restartPolicy": "Never"}
    # The service account is made a moment after the namespace.
    soon(lambda: api.ask("POST", api.path("pods"), {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
                                                    "spec": spec})[0] in (201, 409))  # fmt: skip
    assert api.cluster.log(name, "main") == []
    assert api.cluster.find("v1", "Pod", fields=f"metadata.name={name},status.phase=Pending")
