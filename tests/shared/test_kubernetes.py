import dataclasses
import threading

import pytest

from components.shared import kubernetes
from components.shared.errors import TransientError
from tests.fakes.kube_api import KubeApi

CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "letters"}, "data": {"a": "1", "b": "2"}}


@pytest.fixture
def kube(monkeypatch, tmp_path):
    with KubeApi() as server:
        monkeypatch.setenv("KUBECONFIG", server.kubeconfig(tmp_path / "kubeconfig"))
        yield server


@pytest.fixture
def cluster(kube):
    return kubernetes.connect()


def test_apply_creates_then_changes_and_drops_only_own_fields(kube, cluster):
    assert cluster.apply(CONFIG)["metadata"]["uid"]
    kube.change("ConfigMap", "letters", lambda stored: stored["data"].update(other="9"))
    cluster.apply({**CONFIG, "data": {"a": "3"}})
    assert cluster.get("v1", "ConfigMap", "letters")["data"] == {"a": "3", "other": "9"}


def test_get_and_delete_of_what_is_not_there(cluster):
    assert cluster.get("v1", "ConfigMap", "none") is None
    cluster.delete("v1", "ConfigMap", "none")


def test_find_by_label(cluster):
    for name, colour in (("one", "red"), ("two", "blue"), ("three", "red")):
        cluster.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"colour": colour}}}
        )
    found = cluster.find("v1", "ConfigMap", "colour=red")
    assert [entry["metadata"]["name"] for entry in found] == ["one", "three"]
    assert found[0]["kind"] == "ConfigMap"


def test_an_api_server_that_restarts_is_waited_for(kube, cluster):
    kube.refuse("PATCH", "configmaps", 503, times=2)
    cluster.apply(CONFIG)
    assert kube.one("ConfigMap", "letters")


def test_missing_rights_name_what_to_grant(kube, cluster):
    kube.refuse("PATCH", "configmaps", 403, 'configmaps is forbidden: User "u" cannot patch resource "configmaps"')
    with pytest.raises(kubernetes.ClusterError, match="cannot apply ConfigMap letters in kubeflow: .*forbidden.*rbac"):
        cluster.apply(CONFIG)


def test_an_object_that_the_schema_refuses_says_where(cluster):
    with pytest.raises(kubernetes.ClusterError, match="dat.*unexpected"):
        cluster.apply({**CONFIG, "dat": {}})


def test_an_unreachable_server_is_a_transient_error(kube, cluster):
    kube.__exit__()
    with pytest.raises(TransientError, match="cannot read Pod p in kubeflow"):
        dataclasses.replace(cluster, attempts=2).get("v1", "Pod", "p")


def test_no_cluster_at_all(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(kubernetes.ClusterError, match="set KUBECONFIG"):
        kubernetes.connect()


def test_on_a_desk_it_takes_the_cluster_that_kubectl_takes(kube, monkeypatch, tmp_path):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".kube").mkdir()
    kube.kubeconfig(tmp_path / ".kube/config")
    assert kubernetes.connect().namespace == "kubeflow"
    assert kubernetes.connect(namespace="team").namespace == "team"
    assert kubernetes.connect(context="test").apply(CONFIG) and kube.one("ConfigMap", "letters")
    with pytest.raises(kubernetes.ClusterError, match="no Kubernetes cluster to talk to: .*production"):
        kubernetes.connect(context="production")


def test_a_patch_leaves_what_it_does_not_name(kube, cluster):
    cluster.apply(CONFIG)
    cluster.patch("v1", "ConfigMap", "letters", {"data": {"a": "9"}})
    assert kube.one("ConfigMap", "letters")["data"] == {"a": "9", "b": "2"}


def test_what_may_not_be_done_is_told_apart(kube, cluster):
    kube.refuse("GET", "configmaps", 403)
    with pytest.raises(kubernetes.Forbidden):
        cluster.get("v1", "ConfigMap", "letters")


def test_only_a_step_of_a_run_is_a_step(monkeypatch):
    for host, pod, step in (("10.0.0.1", "p", True), ("10.0.0.1", "", False), ("", "p", False)):
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
        monkeypatch.setenv("KFP_POD_NAME", pod)
        assert kubernetes.in_step() is step


def test_own_pod_prefers_the_name_that_is_not_cut(kube, cluster, monkeypatch):
    name = "museum-classifier-" + "x" * 60
    kube.put({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {}})
    monkeypatch.setenv("HOSTNAME", name[:63])
    monkeypatch.setenv("KFP_POD_NAME", name)
    assert cluster.own_pod()["metadata"]["name"] == name


def test_the_run_owns_what_a_step_creates():
    workflow = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "w", "uid": "1", "controller": True}
    pod = {"metadata": {"name": "p", "uid": "2", "ownerReferences": [workflow]}}
    assert kubernetes.run_reference(pod)["kind"] == "Workflow"
    assert "controller" not in kubernetes.run_reference(pod)
    assert kubernetes.run_reference({"metadata": {"name": "p", "uid": "2"}})["uid"] == "2"


def test_what_a_run_owns_goes_with_it(kube, cluster):
    owner = cluster.apply(CONFIG)
    owned = {"name": "owned", "ownerReferences": [kubernetes.owner_reference(owner)]}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": owned})
    cluster.delete("v1", "ConfigMap", "letters")
    assert kube.wait(lambda: not kube.all("ConfigMap"))


def test_a_log_is_followed_and_resumed_after_its_last_line(kube, cluster):
    kube.put({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {}})
    stamps = [f"2026-01-01T00:00:00.{number:09d}Z" for number in range(5)]
    more = threading.Event()

    def logs(pod, query):
        for number, stamp in enumerate(stamps):
            if number == 3:
                assert more.wait(10)
            yield f"{stamp} line {number}\n".encode()

    kube.logs = logs
    lines = cluster.follow_log("p", "main")
    assert [next(lines)[1] for _ in range(3)] == ["line 0", "line 1", "line 2"]
    more.set()
    assert [text for _, text in lines] == ["line 3", "line 4"]
    assert [text for _, text in cluster.follow_log("p", "main", stamps[2])] == ["line 3", "line 4"]
