"""`pipeline.py doctor`: each thing that it looks at, as it should be, otherwise, and out of sight."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from cli import registry
from cli.main import main
from components.container_images import TAG
from tests.fakes.kfp_server import KfpServer
from tests.fakes.kube_api import KubeApi
from tests.fakes.object_stores import ACCESS_KEY, SECRET_KEY

ONLY_ERRORS = {"retryStrategy": {"limit": "2", "retryPolicy": "OnError"}}
TTL = {"secondsAfterCompletion": 3600, "secondsAfterSuccess": 3600, "secondsAfterFailure": 3600}
PROXY = "/api/v1/namespaces/kubeflow/services/{}:9000/proxy/"
IMAGES = [f"docker.io/library/museum-classifier-{name}:{TAG}" for name in ("data", "train", "serve")]


def argo_config(**spec) -> dict:
    """Argo's configuration as stock KFP 2.17 has it, with other defaults for Workflows."""
    return config_map(
        "workflow-controller-configmap",
        workflowDefaults=yaml.safe_dump({"spec": {"ttlStrategy": TTL, "templateDefaults": ONLY_ERRORS, **spec}}),
        artifactRepository="archiveLogs: true\n",
    )


def config_map(name: str, **data: str) -> dict:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str, **data: str) -> dict:
    coded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": coded}


def service(name: str, port: int) -> dict:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": port}]}}


def deployment(name: str, available: int = 1) -> dict:
    labels = {"app": name}
    pod = {"containers": [{"name": "main", "image": f"ghcr.io/kubeflow/{name}:2.17.0"}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
        "status": {"availableReplicas": available},
    }


def node(**more) -> dict:
    allocatable = {"cpu": "2", "memory": "8Gi", "pods": "110", "ephemeral-storage": "9Gi", **more}
    return {"status": {"allocatable": allocatable, "images": [{"names": IMAGES}]}}


@pytest.fixture
def kube(monkeypatch, tmp_path):
    """A cluster with stock KFP 2.17, the Role applied and the images loaded."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with KubeApi() as kube:
        monkeypatch.setenv("KUBECONFIG", kube.kubeconfig(tmp_path / "kubeconfig"))
        for name in ("ml-pipeline", "workflow-controller"):
            kube.put(deployment(name))
        for entry in (argo_config(), config_map("kfp-launcher", defaultPipelineRoot="minio://mlpipeline/v2/artifacts"),
                      secret("mlpipeline-minio-artifact", accesskey="a", secretkey="b"), service("seaweedfs", 9000),
                      service("ml-pipeline", 8888)):  # fmt: skip
            kube.put(entry)
        kube.put({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "pipeline-runner"}})
        kube.elsewhere |= {
            "/version": {"gitVersion": "v1.34.2"},
            "/api/v1/nodes": {"items": [node()]},
            "/api/v1/namespaces/kubeflow": {"metadata": {"name": "kubeflow"}},
            "/apis/kubeflow.org/v1beta1": {"resources": [{"name": "viewers"}]},
            PROXY.format("seaweedfs"): (403, "<Code>AccessDenied</Code>"),
            f"{PROXY.format('seaweedfs')}mlpipeline": (200, "<ListBucketResult/>"),
        }
        yield kube


@pytest.fixture
def kfp():
    with KfpServer() as server:
        yield server


@pytest.fixture
def doctor(kube, kfp, capsys):
    """Runs it; returns the exit status and the lines of each topic."""

    def run(*more: str) -> tuple[int, dict[str, list[str]]]:
        status = main(["doctor", "--host", kfp.url, *more])
        topics: dict[str, list[str]] = {}
        for line in capsys.readouterr().out.splitlines():
            if line[:4].strip() and line[4:6] == "  ":
                topics.setdefault(line[6:19].strip(), []).append(f"{line[:4].strip()} {line[19:]}")
            elif line.startswith(" " * 19):
                topics[list(topics)[-1]].append(line[19:])
        return status, topics

    return run


def test_a_cluster_that_is_ready(doctor, kube, kfp):
    status, topics = doctor()
    assert status == 0, topics
    assert list(topics) == ["KFP", "Kubernetes", "Store", "Role", "Retries", "TTL", "Pod Security", "Images", "Quota",
                            "GPUs", "TensorBoard", "Kueue"]  # fmt: skip
    assert topics["KFP"][0] == f"ok 2.17.0 at {kfp.url}"
    assert topics["Store"] == ["ok minio://mlpipeline/v2/artifacts at seaweedfs.kubeflow:9000, which answers"]
    assert topics["Role"] == ["ok pipeline-runner may do all that steps do"]
    assert not any(line.startswith("MEND") for lines in topics.values() for line in lines)
    changing = {method for method, path in kube.requests if "accessreviews" not in path} - {"GET"}
    assert not changing, "it only reads"


def test_the_patch_for_retries_keeps_all_else(doctor):
    _, topics = doctor()
    first, words, patch, restart = topics["Retries"]
    assert first.startswith("note a step whose pod is deleted is retried; one that fails") and words == "for both:"
    assert restart.strip() == "kubectl -n kubeflow rollout restart deployment workflow-controller"
    told = patch.partition(" -p '")[2].removesuffix("'")
    spec = yaml.safe_load(json.loads(told)["data"]["workflowDefaults"])["spec"]
    strategy = spec["templateDefaults"]["retryStrategy"]
    assert spec["ttlStrategy"] == TTL and "retryPolicy" not in strategy
    assert strategy["expression"].startswith('lastRetry.status == "Error" || asInt(lastRetry.exitCode) > 0')


@pytest.mark.parametrize(
    "defaults, told",
    [
        ({}, "note a step that fails is retried; one whose pod is deleted is not"),
        ({"retryStrategy": {"retryPolicy": "Always"}}, "MEND retryPolicy: Always runs the whole graph again"),
        ({"retryStrategy": {"expression": "true"}}, "ok steps are retried when they fail and when their pod is gone"),
    ],
)
def test_other_behaviours_of_retries(doctor, kube, defaults, told):
    kube.put(argo_config(templateDefaults=defaults))
    _, topics = doctor()
    assert topics["Retries"][0].startswith(told)


def test_finished_workflows_that_stay(doctor, kube):
    kube.put(argo_config(ttlStrategy={}))
    assert doctor()[1]["TTL"][0].startswith("note finished Workflows and their pods stay")


@pytest.mark.parametrize(
    "health, told",
    [
        ({"tag_name": "2.15.0"}, "MEND 2.15.0 refuses fields of this pipeline, which came with 2.16: upgrade it to"),
        ({"apiServerTagName": "2.16.1"}, "note 2.16.1 at "),
        ({"tag_name": "unknown"}, "note "),
        ({"apiServerReady": False}, "MEND "),
    ],
)
def test_other_servers(doctor, kfp, health, told):
    kfp.health = health
    assert doctor()[1]["KFP"][0].startswith(told)


def test_a_server_that_asks_for_a_login_does_not_hide_the_rest(doctor, kfp):
    kfp.refuse = 401
    status, topics = doctor()
    assert status == 1 and "log in, or give --token" in topics["KFP"][0] and "Store" in topics


def test_a_server_for_several_users(doctor, kfp, kube):
    kfp.health["multi_user"] = True
    kube.put({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default-editor"}})
    _, topics = doctor("--namespace", "kubeflow")
    assert topics["Role"] == ["ok pipeline-runner may do all that steps do"]
    assert any("give --namespace YOURS" in line for line in doctor()[1]["KFP"])


def test_parts_of_kfp_that_are_not_ready(doctor, kube):
    kube.put(deployment("workflow-controller", available=0))
    _, topics = doctor()
    assert topics["KFP"][1].startswith("MEND not ready: workflow-controller (kubectl -n kubeflow get pods")


def test_a_namespace_without_the_role(doctor, kube):
    kube.denied |= {("create", "jobs"), ("patch", "jobs"), ("get", "pods/log")}
    status, topics = doctor()
    assert status == 1
    assert topics["Role"] == ["MEND pipeline-runner may not create, patch jobs; get pods/log: "
                              "kubectl apply -k manifests/overlays/cluster (docs/cluster.md, 3)"]  # fmt: skip


def test_a_namespace_without_the_account(doctor):
    assert "no ServiceAccount robot in kubeflow" in doctor("--account", "robot")[1]["Role"][0]


def test_the_store_of_an_older_kfp(doctor, kube):
    kube.remove("Service", "seaweedfs", final=True)
    assert "neither seaweedfs.kubeflow:9000 nor minio-service.kubeflow:9000" in doctor()[1]["Store"][0]
    kube.put(service("minio-service", 9000))
    kube.elsewhere[PROXY.format("minio-service")] = (403, "<Code>AccessDenied</Code>")
    assert doctor()[1]["Store"][0].endswith("at minio-service.kubeflow:9000, which answers")


@pytest.mark.slow
def test_keys_that_the_store_refuses(doctor, kube, s3_bucket, s3_environment):
    """A real store behind the API server's proxy, by the ways that KFP's launcher and the steps take."""
    proxy = PROXY.format("seaweedfs")
    kube.behind[proxy.removesuffix("/")] = s3_environment
    del kube.elsewhere[f"{proxy}mlpipeline"]
    right, bucket = (ACCESS_KEY, SECRET_KEY), s3_bucket.removeprefix("s3://")

    def store(access: str, key: str, root: str = f"minio://{bucket}/some/where") -> list[str]:
        kube.put(secret("mlpipeline-minio-artifact", accesskey=access, secretkey=key))
        return doctor("--root", root)[1]["Store"][1:]

    assert store(*right) == []
    [unknown] = store("nobody", SECRET_KEY)
    assert unknown == (f"MEND minio://{bucket}/some/where: seaweedfs.kubeflow:9000 does not know the access key of the "
                       "Secret mlpipeline-minio-artifact: correct accesskey and secretkey")  # fmt: skip
    assert "refuses the secret key of the Secret mlpipeline-minio-artifact" in store(ACCESS_KEY, "wrong")[0]
    assert "there is no bucket none at seaweedfs.kubeflow:9000: create it" in store(*right, "minio://none/x")[0]


def test_keys_of_the_steps_own_secret(doctor, kube, s3_bucket, s3_environment):
    """A store outside of the cluster, which is asked from here."""
    reference = {"secretName": "mlpipeline-minio-artifact", "accessKeyKey": "accesskey", "secretKeyKey": "secretkey"}
    default = {"endpoint": s3_environment, "credentials": {"secretRef": reference}}
    kube.put(config_map("kfp-launcher", providers=yaml.safe_dump({"s3": {"default": default}})))
    kube.put(secret("mlpipeline-minio-artifact", accesskey=ACCESS_KEY, secretkey=SECRET_KEY))
    kube.put(secret("museum-classifier-store", AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY="wrong"))
    answers, refused = doctor("--root", s3_bucket)[1]["Store"]
    assert answers.endswith("which answers here") and "refuses the secret key of the Secret museum-class" in refused


def test_a_store_that_does_not_answer(doctor, kube):
    message = {"message": 'no endpoints available for service "seaweedfs:9000"'}
    kube.elsewhere[PROXY.format("seaweedfs")] = (503, json.dumps(message))
    status, topics = doctor()
    assert status == 1 and "seaweedfs.kubeflow:9000 does not answer" in topics["Store"][0]


def test_a_store_whose_endpoint_is_wrong(doctor, kube):
    wrong = (("seaweedfs.kubeflow:9001", "has no port 9001, it has 9000"), ("store.kubeflow:9000", "no Service"))
    for endpoint, told in wrong:
        default = {"endpoint": endpoint, "disableSSL": True}
        kube.put(config_map("kfp-launcher", providers=yaml.safe_dump({"minio": {"default": default}})))
        status, topics = doctor()
        assert status == 1 and told in topics["Store"][0] and "ConfigMap kfp-launcher" in topics["Store"][0]


def test_a_store_without_its_secret(doctor, kube):
    kube.put(secret("mlpipeline-minio-artifact", accesskey="a"))
    assert doctor()[1]["Store"][0] == "MEND the Secret mlpipeline-minio-artifact has no secretkey"
    kube.remove("Secret", "mlpipeline-minio-artifact", final=True)
    assert "there is no Secret mlpipeline-minio-artifact in kubeflow" in doctor()[1]["Store"][0]


def test_a_store_that_is_not_the_launchers(doctor, kube):
    reference = {"secretName": "mlpipeline-minio-artifact", "accessKeyKey": "accesskey", "secretKeyKey": "secretkey"}
    default = {"endpoint": "seaweedfs.kubeflow:9000", "disableSSL": True, "credentials": {"secretRef": reference}}
    kube.put(config_map("kfp-launcher", providers=yaml.safe_dump({"s3": {"default": default}})))
    kube.put(secret("museum-classifier-store", AWS_ENDPOINT_URL_S3="https://s3.example.org"))
    status, topics = doctor("--root", "s3://bucket/x")
    assert status == 1 and topics["Store"][0].startswith(
        "MEND steps go to s3.example.org (Secret museum-classifier-store) and KFP's launcher to seaweedfs.kubeflow:9000"
    )


@pytest.mark.parametrize("root", ["bucket/x", "file:///x", "s3://", "http://x/y"])
def test_a_root_that_is_no_store(doctor, root):
    assert "is no store: give --root s3://BUCKET/PREFIX" in doctor("--root", root)[1]["Store"][0]


def test_images_that_are_never_pulled(doctor):
    status, topics = doctor("--registry", "localhost", "--image-pull-policy", "Never")
    assert status == 1 and all("no node lists it yet, and Never pulls none" in line for line in topics["Images"])
    assert doctor("--image-pull-policy", "Never")[1]["Images"][0].startswith("ok the nodes have")


def test_images_that_no_node_has(doctor, kube):
    kube.elsewhere["/api/v1/nodes"] = {"items": [{"status": {"allocatable": {}, "images": []}}]}
    status, topics = doctor()
    assert status == 1 and len(topics["Images"]) == 3
    assert "it has no registry and no node lists it: kind load, or --registry/--digests" in topics["Images"][0]


class Registry(BaseHTTPRequestHandler):
    """One repository, behind a token that costs a login."""

    def do_HEAD(self):
        if self.headers.get("Authorization") == "Bearer good":
            return self._end(200 if "/museum-classifier-" in self.path else 404)
        host = self.headers["Host"]
        challenge = f'Bearer realm="http://{host}/token",service="{host}",scope="repository:x:pull"'
        return self._end(401, {"WWW-Authenticate": challenge})

    def do_GET(self):
        wanted = base64.b64encode(b"you:secret").decode()
        if self.headers.get("Authorization") != f"Basic {wanted}":
            return self._end(401)
        return self._end(200, {}, b'{"token": "good"}')

    def _end(self, status: int, headers=(), body: bytes = b""):
        self.send_response(status)
        for name, text in dict(headers).items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def registry_host():
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
def test_images_of_a_registry_with_a_login(doctor, kube, registry_host):
    options = ("--registry", f"{registry_host}/you")
    assert "the registry wants a login: give --image-pull-secret NAME" in doctor(*options)[1]["Images"][0]
    options += ("--image-pull-secret", "pull")
    assert any("there is no Secret pull" in line for line in doctor(*options)[1]["Images"])
    auths = {"auths": {f"https://{registry_host}/v1/": {"username": "you", "password": "secret"}}}
    kube.put(secret("pull", **{".dockerconfigjson": json.dumps(auths)}))
    assert doctor(*options)[1]["Images"][0].startswith(f"ok the registry has {registry_host}/you/museum-classifier-")


def test_a_registry_that_only_the_cluster_reaches_is_not_blamed(doctor):
    status, topics = doctor("--registry", "127.0.0.1:9/you")
    first = topics["Images"][0]
    assert status == 0 and first.startswith("? 127.0.0.1:9/you/") and "does not answer here" in first


@pytest.mark.parametrize(
    "reference, found",
    [
        ("museum", ("registry-1.docker.io", "library/museum", "latest")),
        ("you/museum:1", ("registry-1.docker.io", "you/museum", "1")),
        ("ghcr.io/you/museum:1", ("ghcr.io", "you/museum", "1")),
        ("localhost:5000/museum@sha256:ab", ("localhost:5000", "museum", "sha256:ab")),
        ("ghcr.io/you/museum:1@sha256:ab", ("ghcr.io", "you/museum", "sha256:ab")),
    ],
)
def test_parts_of_a_reference(reference, found):
    assert registry.parts(reference) == found


def test_a_pod_that_cannot_pull_its_image(doctor, kube):
    waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image x"}
    status = {"name": "main", "ready": False, "restartCount": 0, "image": "x", "imageID": ""}
    status["state"] = {"waiting": waiting}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "step"}, "spec": {"containers": [{"name": "main"}]}}
    kube.put({**pod, "status": {"phase": "Pending", "containerStatuses": [status]}})
    assert doctor()[1]["Pods"] == ["MEND step: ImagePullBackOff: Back-off pulling image x"]


def test_a_quota_that_is_full(doctor, kube):
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "team"}}
    hard = {"requests.cpu": "4", "requests.memory": "8Gi", "pods": "20"}
    used = {"requests.cpu": "4000m", "requests.memory": "1Gi", "pods": "3"}
    kube.put({**quota, "status": {"hard": hard, "used": used}})
    status, topics = doctor()
    assert status == 1 and topics["Quota"][0].startswith("MEND team is full: requests.cpu 4000m of 4: free some of it")


def test_accelerators_by_their_resource_names(doctor, kube):
    kube.elsewhere["/api/v1/nodes"] = {"items": [node(**{"nvidia.com/gpu": "8"}), node(**{"nvidia.com/gpu": "2"})]}
    assert doctor()[1]["GPUs"] == ["ok train_accelerator=nvidia.com/gpu: 10 on 2 nodes, at most 8 on one"]


@pytest.mark.slow
def test_ways_to_tensorboard(doctor, kube, kfp):
    kfp.viewers = 401
    assert any(line.startswith("MEND") and "may you use viewers" in line for line in doctor()[1]["TensorBoard"])
    kfp.viewers = 200
    del kube.elsewhere["/apis/kubeflow.org/v1beta1"]
    assert doctor()[1]["TensorBoard"][0].startswith("MEND neither KFP's viewer nor our own is installed")
    kube.put(service("museum-classifier-tensorboard", 80))
    assert doctor()[1]["TensorBoard"][0].startswith("ok kubectl port-forward service/museum-classifier-tensorboard")


def test_a_cluster_with_kueue(doctor, kube):
    kube.elsewhere["/apis/kueue.x-k8s.io"] = {"versions": []}
    queues = {"items": [{"metadata": {"name": "team-a"}}]}
    kube.elsewhere["/apis/kueue.x-k8s.io/v1beta1/namespaces/kubeflow/localqueues"] = queues
    assert doctor()[1]["Kueue"][0].startswith("note installed, queues here: team-a")


def test_what_may_not_be_read_is_said_and_the_rest_goes_on(doctor, kube):
    for plural in ("secrets", "localsubjectaccessreviews", "configmaps"):
        kube.refuse("*", plural, 403, f"you cannot get {plural}")
    kube.elsewhere["/api/v1/nodes"] = (403, json.dumps({"message": "nodes is forbidden"}))
    status, topics = doctor()
    assert status == 0
    for topic in ("Store", "Role", "Retries", "Images", "GPUs"):
        assert topics[topic][0].startswith("? you may not look: "), topics[topic]
        assert "grant it" not in topics[topic][0]
    assert topics["Quota"] == ["ok none in this namespace"]


def test_without_a_cluster_or_a_host_it_says_what_to_give(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "give --host URL" in printed and "give --kubeconfig or --context" in printed
    assert "nothing to mend; 2 could not be looked at" in printed
