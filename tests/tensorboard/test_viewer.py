import json
import os
import subprocess
import time

import pytest

from components.tensorboard.viewer import write_viewer

IMAGE = "registry.example/museum-classifier-data:1"


@pytest.fixture
def written(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("AWS_", "S3_", "MINIO_"))]:
        monkeypatch.delenv(name)

    def write(uri: str) -> dict:
        metadata = tmp_path / "deep" / "mlpipeline_ui_metadata"
        write_viewer(uri, str(tmp_path / "logs"), str(metadata), IMAGE, "my-store")
        return json.loads(metadata.read_text())["outputs"][0]

    return write


def test_the_ui_finds_the_logs_and_the_image(written, tmp_path):
    output = written("gs://bucket/run/logs")
    assert output == {"type": "tensorboard", "source": "gs://bucket/run/logs", "image": IMAGE}
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
    ((volume,), (container,)) = spec["volumes"], spec["containers"]
    ((mount,), (variable,)) = container["volumeMounts"], container["env"]
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
