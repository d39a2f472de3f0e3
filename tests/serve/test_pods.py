"""What is said of pods that do not become ready."""

import pytest

from components.serve import pods
from components.shared import kubernetes
from tests.fakes.kube_api import KubeApi
from tests.fakes.kube_objects import Object


@pytest.fixture
def kube(monkeypatch, tmp_path):
    with KubeApi() as kube:
        monkeypatch.setenv("KUBECONFIG", kube.kubeconfig(tmp_path / "kubeconfig"))
        yield kube


@pytest.fixture
def cluster(kube):
    return kubernetes.connect()


def pod(state: Object | None = None, last: Object | None = None, restarts: int = 0, **status) -> Object:
    container = {"name": "server", "ready": False, "restartCount": restarts, "image": "i", "imageID": "i"}
    container |= {"state": state or {}, "lastState": last or {}}
    found = {"phase": "Running", "containerStatuses": [container], **status}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {}, "status": found}


def event(message: str, when: str, **fields) -> Object:
    involved = {"kind": "Pod", "name": "p", "namespace": "kubeflow"}
    content = {"involvedObject": involved, "type": "Warning", "reason": "FailedMount", "message": message, **fields}
    metadata = {"name": message}
    return {"apiVersion": "v1", "kind": "Event", "metadata": metadata, "lastTimestamp": when, **content}


def test_the_newest_warning_says_what_the_pod_itself_cannot(kube, cluster):
    kube.put(pod())
    kube.put(event("secret-a-not-found", "2026-01-01T00:00:00Z"))
    kube.put(event("secret-b-not-found", "2026-01-01T00:01:00Z"))
    kube.put(event("pulled", "2026-01-01T00:02:00Z", type="Normal"))
    assert pods.waiting_for(cluster, kube.all("Pod")) == ("pod p is not ready: FailedMount: secret-b-not-found", False)


def test_events_that_may_not_be_read_are_no_error(kube, cluster):
    kube.refuse("GET", "events", 403)
    assert pods.waiting_for(cluster, [pod()])[0] == "pod p is not ready: it printed nothing"


@pytest.mark.parametrize(
    "printed, events, reason",
    [
        (b"serving svc-b at http://localhost:8080/\n", [], "it does not answer yet"),
        (b"serving svc-b at http://localhost:8080/\n", ["probe-failed"], "FailedMount: probe-failed"),
        (b"error: no such bucket\nserving\n", ["probe-failed"], "no such bucket"),
    ],
)
def test_what_a_server_prints_that_is_well_is_no_reason(kube, cluster, printed, events, reason):
    kube.put(pod())
    kube.logs = lambda found, query: iter([printed])
    for message in events:
        kube.put(event(message, "2026-01-01T00:00:00Z"))
    assert pods.waiting_for(cluster, kube.all("Pod"))[0] == f"pod p is not ready: {reason}"


def test_a_quota_is_the_deployments_to_tell(cluster):
    refused = {"type": "ReplicaFailure", "status": "True", "message": 'pods "p" is forbidden: exceeded quota: cpu'}
    owner = {"status": {"conditions": [refused]}}
    assert pods.waiting_for(cluster, [], owner)[0] == 'there is no pod yet: pods "p" is forbidden: exceeded quota: cpu'
    evicted = pod(phase="Failed")
    assert pods.waiting_for(cluster, [evicted], owner)[0].startswith("there is no pod yet")


def test_what_a_container_said_before_it_was_started_again(kube, cluster):
    kube.put(pod())
    kube.logs = lambda found, query: iter([b"error: no such bucket\n"] if "previous" in query else [b""])
    crashed = {"terminated": {"exitCode": 1, "reason": "Error"}}
    text = pods.permanent_failure(cluster, [pod(last=crashed, restarts=3)])
    assert text == "pod p keeps crashing: no such bucket (exit status 1)"


def test_too_little_memory_is_told_as_such(cluster):
    killed = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    assert "more memory than its limit (OOMKilled)" in pods.permanent_failure(cluster, [pod(last=killed, restarts=3)])
    assert pods.permanent_failure(cluster, [pod(last=killed, restarts=2)]) is None
