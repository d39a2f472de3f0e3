import json
import os
import subprocess
import time

import pytest

from components.tensorboard import viewer
from components.tensorboard.viewer import write_viewer
from tests.fakes.kfp_ui import KfpUi

IMAGE = "registry.example/museum-classifier-data:1"


@pytest.fixture
def written(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("AWS_", "S3_", "MINIO_"))]:
        monkeypatch.delenv(name)

    def write(uri: str) -> dict:
        metadata = tmp_path / "deep" / "mlpipeline_ui_metadata"
        write_viewer(uri, str(tmp_path / "logs"), str(metadata), str(tmp_path / "link"), IMAGE, "my-store")
        return json.loads(metadata.read_text())["outputs"][0]

    return write


def test_the_ui_finds_the_logs_and_the_image(written, tmp_path):
    output = written("gs://bucket/run/logs")
    assert (output["type"], output["source"], output["image"]) == ("tensorboard", "gs://bucket/run/logs", IMAGE)
    assert "gs://bucket/run/logs" in (tmp_path / "logs" / "README.txt").read_text()


def test_a_minio_store_is_given_as_s3_with_its_address_and_without_its_keys(written, monkeypatch):
    monkeypatch.setenv("MINIO_ENDPOINT", "seaweedfs.kubeflow:9000")
    monkeypatch.setenv("MINIO_ACCESS_KEY", "the-access-key")
    monkeypatch.setenv("MINIO_SECRET_KEY", "the-secret-key")
    output = written("minio://mlpipeline/v2/artifacts/run/logs")
    assert output["source"] == "s3://mlpipeline/v2/artifacts/run/logs"
    variables = {entry["name"]: entry for entry in output["pod_template_spec"]["spec"]["containers"][0]["env"]}
    assert variables["S3_ENDPOINT"]["value"] == "http://seaweedfs.kubeflow:9000"
    reference = variables["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"]
    assert (reference["name"], reference["key"]) == ("mlpipeline-minio-artifact", "secretkey")
    assert "the-secret-key" not in json.dumps(output)


def test_s3_of_amazon_needs_no_address(written, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    output = written("s3://bucket/logs")
    assert output["pod_template_spec"]["spec"]["containers"][0]["env"] == [
        {"name": "AWS_DEFAULT_REGION", "value": "eu-west-1"}
    ]


def test_a_store_of_the_users_own_is_given_by_the_secret_that_has_its_keys(written, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://store.example.org")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the-access-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret-key")
    output = written("s3://bucket/logs")
    variables = {entry["name"]: entry for entry in output["pod_template_spec"]["spec"]["containers"][0]["env"]}
    assert variables["S3_ENDPOINT"]["value"] == "https://store.example.org"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        reference = variables[name]["valueFrom"]["secretKeyRef"]
        assert (reference["name"], reference["key"], reference["optional"]) == ("my-store", name, True)
    assert "AWS_SESSION_TOKEN" not in variables and "the-secret-key" not in json.dumps(output)


def test_tensorboard_is_at_gs_whom_the_launcher_names(written, pod, google, tmp_path):
    """The viewer's pod as its description has it, played by this machine: TensorBoard's own reader asks for a token."""
    import tensorboard_data_server

    server = tensorboard_data_server.server_binary()
    if not server:  # the wheel for any other platform has none inside
        pytest.skip("TensorBoard has no reader of gs:// for this machine")
    providers = "gs: {default: {credentials: {secretRef: {secretName: gcp, tokenKey: sa.json}}}}"
    pod["configmaps/kfp-launcher"] = {"data": {"providers": providers}}
    output = written("gs://bucket/run/logs")
    spec = output["pod_template_spec"]["spec"]
    ((volume, _), (container,)) = spec["volumes"], spec["containers"]
    ((mount, _), (variable,)) = container["volumeMounts"], container["env"]
    assert (mount["name"], mount["readOnly"], volume["secret"]["secretName"]) == (volume["name"], True, "gcp")
    (item,) = volume["secret"]["items"]
    assert item["key"] == "sa.json"
    (tmp_path / item["path"]).write_text(google.account("viewer@test"))
    path = variable["value"].replace(mount["mountPath"], str(tmp_path))
    process = subprocess.Popen(
        [server, f"--logdir={output['source']}", "--port=0"],
        env={**os.environ, variable["name"]: path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while not google.exchanged and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    assert set(google.exchanged) == {"viewer@test"}


@pytest.mark.parametrize("uri", ["gs://bucket/run/logs", "s3://bucket/run/logs"])
def test_the_viewers_pod_meets_the_restricted_standard(written, uri):
    import kubernetes_validate

    spec = written(uri)["pod_template_spec"]["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]]
    # As the viewer controller completes it.
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "viewer"}, "spec": spec}
    container |= {"name": "viewer-pod", "image": IMAGE}
    kubernetes_validate.validate(pod, "1.34", strict=True)


@pytest.fixture
def step(pod, monkeypatch):
    """Makes this process a step in namespace kubeflow; returns a function that sets the UI's servers that it asks."""
    monkeypatch.setenv("KFP_POD_NAME", "museum-classifier-x")
    return lambda *servers: monkeypatch.setattr(viewer, "UI_SERVERS", servers)


def test_one_click_leads_to_the_curves(step, written, tmp_path):
    with KfpUi() as ui:
        step("http://127.0.0.1:1", ui.url)
        output = written("gs://bucket/run/logs")
        ((name, query),) = ui.viewers.items()
        assert (query["logdir"], query["image"], query["namespace"]) == ("gs://bucket/run/logs", IMAGE, "kubeflow")
        assert json.loads(query["podtemplatespec"]) == output["pod_template_spec"]
        page = (tmp_path / "link").read_text()
        # Relative to the page that shows it, so it holds by whatever address and prefix the UI is reached.
        assert f"](apps/tensorboard/proxy/signed.{name}/)" in page
        assert "kubectl -n kubeflow port-forward \\\n        service/museum-classifier-tensorboard 6006\n" in page
        written("gs://bucket/run/logs")  # the step is retried: the viewer is there
        assert (tmp_path / "link").read_text() == page and len(ui.viewers) == 1


@pytest.mark.parametrize("kind", [{"old": True}, {"refuse": 401}, {"refuse": 500}])
def test_a_ui_that_does_not_start_it_leaves_the_other_ways(step, written, tmp_path, capsys, kind):
    with KfpUi(**kind) as ui:
        step(ui.url)
        written("gs://bucket/run/logs")
    page = (tmp_path / "link").read_text()
    assert "](apps/" not in page and "Start TensorBoard" in page and "port-forward" in page
    assert capsys.readouterr().out.count("warning: the UI does not start TensorBoard: http://127.0.0.1:") == 1


def test_no_ui_at_all_is_no_failure(step, written, tmp_path):
    step("http://127.0.0.1:1")
    written("gs://bucket/run/logs")
    assert "could not be asked" in (tmp_path / "link").read_text()
