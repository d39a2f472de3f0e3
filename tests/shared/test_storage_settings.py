"""Where the store is: by the environment or KFP's kfp-launcher, asked of a real HTTPS server as of a cluster's API."""

import socket

import pytest

from components.shared.storage import access, storage
from components.shared.storage.access import pod_environment, s3_settings
from tests.fakes.object_stores import ACCESS_KEY, SECRET_KEY, free_ports
from tests.fakes.secrets_api import forget_environment, secret


def stores(monkeypatch, *addresses: str) -> None:
    """The names of the store of Kubeflow Pipelines, in the order in which they are tried."""
    monkeypatch.setattr(access, "KFP_STORES", addresses)
    access.kfp_store.cache_clear()


MISSING = "there-is-none.invalid:9000"


def test_the_stores_of_stock_installations():
    """As the launcher has them: backend/src/v2/objectstore/config.go of 2.16 on, and of 2.15 and before."""
    assert access.KFP_STORES == ("seaweedfs.kubeflow:9000", "minio-service.kubeflow:9000")


@pytest.mark.parametrize("names", [("localhost:9000", MISSING), (MISSING, "localhost:9000")])
def test_a_stock_installation_needs_no_setting(pod, monkeypatch, names):
    stores(monkeypatch, *names)
    pod["configmaps/kfp-launcher"] = {"data": {"defaultPipelineRoot": ""}}
    pod["secrets/mlpipeline-minio-artifact"] = secret(accesskey="minio", secretkey="minio123")
    found = s3_settings("minio://bucket/key")
    assert found.endpoint == "http://localhost:9000" and found.path_style
    assert (found.access_key, found.secret_key) == ("minio", "minio123")
    assert "minio123" not in repr(found)


def test_of_two_stores_the_one_that_answers_is_the_launchers(pod, monkeypatch):
    """KFP 2.15 with SeaweedFS has both names, and seaweedfs no such port; an upgraded one may have left its minio."""
    (closed,) = free_ports(1)
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        open_, older = (f"localhost:{server.getsockname()[1]}" for server in (first, second))
        stores(monkeypatch, open_, older)
        assert access.kfp_store() == open_
        stores(monkeypatch, f"localhost:{closed}", older)
        assert access.kfp_store() == older


def test_dns_is_asked_once_and_again_where_it_does_not_answer(pod, monkeypatch):
    asked, resolve = [], socket.getaddrinfo

    def getaddrinfo(host, *rest, **kept):
        asked.append(host)
        if len(asked) == 1:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return resolve(host, *rest, **kept)

    stores(monkeypatch, "localhost:9000", MISSING)
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert [access.kfp_store() for _ in range(2)] == ["localhost:9000"] * 2
    assert asked == ["localhost", "localhost", MISSING.partition(":")[0]]


def test_no_store_says_where_to_name_one(pod, monkeypatch):
    stores(monkeypatch, MISSING, "neither-this.invalid:9000")
    with pytest.raises(storage.StorageError, match="neither .* providers.minio of the ConfigMap kfp-launcher"):
        s3_settings("minio://bucket/key")


def test_a_step_reads_the_launchers_store(pod, s3_endpoint, monkeypatch):
    import boto3

    keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY, "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=s3_endpoint, **keys).create_bucket(Bucket="test-launcher")
    pod["configmaps/kfp-launcher"] = {
        "data": {
            "defaultPipelineRoot": "s3://test-launcher",
            "providers": f"""
s3:
  default:
    endpoint: {s3_endpoint.removeprefix("http://")}
    disableSSL: true
    region: us-east-1
    credentials:
      secretRef: {{secretName: keys, accessKeyKey: a, secretKeyKey: s}}
""",
        }
    }
    pod["secrets/keys"] = secret(a=ACCESS_KEY, s=SECRET_KEY)
    storage.write_bytes("s3://test-launcher/file", b"data")
    assert storage.read_bytes("s3://test-launcher/file") == b"data"


def test_a_bucket_with_settings_of_its_own(pod, s3_endpoint):
    """The launcher's `overrides`: the first that fits, its credentials instead of the default's."""
    import boto3

    keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY, "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=s3_endpoint, **keys).create_bucket(Bucket="test-team")
    pod["configmaps/kfp-launcher"] = {
        "data": {
            "providers": f"""
s3:
  default: {{endpoint: 127.0.0.1:1, disableSSL: true, region: r, credentials: {{fromEnv: true}}}}
  Overrides:
  - bucketName: test-team
    keyPrefix: ours/runs/
    endpoint: {s3_endpoint.removeprefix("http://")}
    credentials:
      secretRef: {{secretName: keys, accessKeyKey: a, secretKeyKey: s}}
  - {{bucketName: test-team, credentials: {{fromEnv: true}}, region: other}}
""",
        }
    }
    pod["secrets/keys"] = secret(a=ACCESS_KEY, s=SECRET_KEY)
    storage.write_bytes("s3://test-team/ours/runs/file", b"data")
    assert storage.read_bytes("s3://test-team/ours/runs/file") == b"data"
    assert [entry["name"] for entry in pod_environment("s3://test-team/ours/runs/1")] == [
        "AWS_ENDPOINT_URL_S3",
        "AWS_REGION",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    ]
    for uri, region in [("s3://test-team/ours/runs2", "other"), ("s3://elsewhere/ours/runs/file", "r")]:
        found = s3_settings(uri)
        assert (found.endpoint, found.region, found.access_key) == ("http://127.0.0.1:1", region, None)


def test_credentials_from_the_pods_own_environment(pod, monkeypatch):
    pod["configmaps/kfp-launcher"] = {
        "data": {"providers": "s3: {default: {endpoint: s3.example.com, credentials: {fromEnv: true}}}"}
    }
    found = s3_settings("s3://bucket/key")
    assert found.endpoint == "https://s3.example.com" and found.access_key is None


def test_the_environment_goes_first(pod, monkeypatch):
    pod["configmaps/kfp-launcher"] = {"data": {"providers": "s3: {default: {endpoint: wrong.example.com}}"}}
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://right.example.com:9000")
    assert s3_settings("s3://bucket/key").endpoint == "http://right.example.com:9000"
    assert s3_settings("s3://bucket/key").access_key is None


def test_a_secret_that_may_not_be_read_says_which_right_is_missing(pod, monkeypatch):
    pod["secrets/mlpipeline-minio-artifact"] = 403
    message = "may not read secrets/mlpipeline-minio-artifact: give .*manifests/base/rbac"
    stores(monkeypatch, "localhost:9000")
    with pytest.raises(storage.StorageError, match=message):
        s3_settings("minio://bucket/key")


def test_a_launcher_config_that_may_not_be_read_leaves_the_defaults(pod):
    pod["configmaps/kfp-launcher"] = 403
    assert s3_settings("s3://bucket/key").endpoint is None


def test_outside_a_cluster(monkeypatch):
    forget_environment(monkeypatch)
    assert s3_settings("s3://bucket/key").endpoint is None and not s3_settings("s3://bucket/key").path_style
    with pytest.raises(storage.StorageError, match="set MINIO_ENDPOINT=http://HOST:PORT"):
        s3_settings("minio://bucket/key")
    monkeypatch.setenv("S3_ENDPOINT", "store:9000")
    monkeypatch.setenv("S3_USE_HTTPS", "0")
    assert s3_settings("minio://bucket/key").endpoint == "http://store:9000"
    monkeypatch.setenv("MINIO_ENDPOINT", "minio:9000")
    monkeypatch.setenv("MINIO_ACCESS_KEY", "me")
    monkeypatch.setenv("MINIO_SECRET_KEY", "mine")
    assert s3_settings("minio://bucket/key").access_key == "me" and s3_settings("s3://bucket/key").access_key is None
    monkeypatch.setenv("S3_ADDRESSING_STYLE", "virtual")
    assert not s3_settings("minio://bucket/key").path_style


def test_kfps_store_and_one_of_the_users_own_at_once(pod, s3_endpoint, monkeypatch):
    """A stock minio:// pipeline root, and secret_store with another store to read pictures from."""
    import boto3

    keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY, "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=s3_endpoint, **keys).create_bucket(Bucket="test-kfps-own")
    stores(monkeypatch, s3_endpoint.removeprefix("http://"), MISSING)
    pod["secrets/mlpipeline-minio-artifact"] = secret(accesskey=ACCESS_KEY, secretkey=SECRET_KEY)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://pictures.example.org")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-pictures")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-pictures")
    storage.write_bytes("minio://test-kfps-own/file", b"data")
    assert storage.read_bytes("minio://test-kfps-own/file") == b"data"
    assert s3_settings("s3://bucket/key").endpoint == "https://pictures.example.org"
    names = [entry["name"] for entry in pod_environment("minio://bucket/key")]
    assert names == ["MINIO_ENDPOINT", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"]
    assert pod_environment("s3://bucket/key") == []


def test_a_server_gets_the_launchers_store_where_the_steps_own_secret_does_not_exist(pod, monkeypatch):
    from components.serve.objects import inherited

    pod["configmaps/kfp-launcher"] = {
        "data": {
            "providers": "s3: {default: {endpoint: s3.example.com, credentials: "
            "{secretRef: {secretName: keys, accessKeyKey: a, secretKeyKey: s}}}}"
        }
    }
    reference = {"secretKeyRef": {"name": "museum-classifier-store", "key": "AWS_ACCESS_KEY_ID", "optional": True}}
    environment = [{"name": "AWS_ACCESS_KEY_ID", "valueFrom": reference}, {"name": "AWS_REGION", "value": "r"}]
    step = {"metadata": {}, "spec": {"containers": [{"name": "main", "env": environment}]}}

    def key() -> dict:
        around = inherited(step, pod_environment("s3://bucket/key"), own_account=True)
        (found,) = [entry for entry in around.environment if entry["name"] == "AWS_ACCESS_KEY_ID"]
        return found["valueFrom"]["secretKeyRef"]

    assert key() == {"name": "keys", "key": "a"}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the Secret exists")
    assert key()["name"] == "museum-classifier-store"
