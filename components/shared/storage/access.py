"""Where a store is and who we are there: from the environment, or as Kubeflow Pipelines' own launcher finds it.

The launcher reads `providers` of the ConfigMap `kfp-launcher` and the Secret that it names, with the rights of the
step's pod. We do the same, so a step reaches the store of an installation that works without any setting of ours.
"""

import base64
import functools
import json
import os
import socket
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from components.shared.storage.base import StorageError, TransientStorageError, bucket_and_key, retried

_CONNECT_SECONDS = 3
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LAUNCHER_CONFIG = "kfp-launcher"
# A key for gs:// itself and not its path, which is all that Google has a variable for: so pods get it from a Secret.
GS_CREDENTIALS = "GS_CREDENTIALS_JSON"
# The store that KFP brings, as its launchers have it built in: SeaweedFS since KFP 2.16, before it minio-service.
KFP_STORES = ("seaweedfs.kubeflow:9000", "minio-service.kubeflow:9000")
# How it is reached unless the ConfigMap says otherwise; the Secret has kept its name.
KFP_PROVIDER: dict[str, Any] = {
    "disableSSL": True,
    "credentials": {
        "secretRef": {
            "secretName": "mlpipeline-minio-artifact",
            "accessKeyKey": "accesskey",
            "secretKeyKey": "secretkey",
        }
    },
}


@dataclass(frozen=True)
class S3Settings:
    """`endpoint` None is AWS; keys None are what boto3 finds (environment, files, workload identity)."""

    endpoint: str | None
    region: str | None
    path_style: bool
    access_key: str | None = None
    secret_key: str | None = None

    def __repr__(self) -> str:
        return f"S3Settings(endpoint={self.endpoint!r}, region={self.region!r})"  # the keys stay out of logs


@dataclass(frozen=True)
class GsCredentials:
    """The JSON of a service account's key (or whatever else google-auth takes), and where it is from, for messages."""

    source: str
    text: str = field(repr=False)

    def parsed(self) -> dict:
        """The JSON's object. Raises StorageError: it is none."""
        try:
            found = json.loads(self.text)
        except ValueError:
            found = None
        if not isinstance(found, dict) or not found.get("type"):
            raise self.broken()
        return found

    def broken(self) -> StorageError:
        """The error to raise where no library can make use of it; it quotes nothing."""
        return StorageError(f"{self.source} holds no whole key of a service account: put the JSON file there as it is")


def s3_settings(uri: str) -> S3Settings:
    """Settings for `uri`, which is s3:// or minio://; the environment goes before `kfp-launcher`.

    Endpoint: MINIO_ENDPOINT (minio only), AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, S3_ENDPOINT. Keys: MINIO_ACCESS_KEY
    and MINIO_SECRET_KEY (minio only), then whatever boto3 knows. Region: AWS_REGION, AWS_DEFAULT_REGION, S3_REGION.

    In a pod the store that KFP brought is minio, and the variables named after AWS are those of another one, from which
    images may come or the data be taken: there minio knows its own variables only.

    Raises:
        StorageError: minio:// without an address, or a Secret that may not be read.
    """
    scheme = uri.partition("://")[0]
    endpoint = _endpoint(scheme)
    provider = _provider(uri) if not endpoint else {}
    if provider.get("endpoint"):
        endpoint = _with_scheme(provider["endpoint"], not provider.get("disableSSL", False))
    if scheme == "minio" and not endpoint:
        raise StorageError("minio:// needs the address of its server: set MINIO_ENDPOINT=http://HOST:PORT")
    own = scheme == "minio" and _in_pod()
    region = ("" if own else _first("AWS_REGION", "AWS_DEFAULT_REGION", "S3_REGION")) or provider.get("region")
    access, secret = _keys(scheme, provider)
    path_style = os.environ.get("S3_ADDRESSING_STYLE", "path") == "path" and bool(endpoint)
    if "forcePathStyle" in provider:
        path_style = bool(provider["forcePathStyle"])
    return S3Settings(endpoint, region or ("us-east-1" if endpoint else None), path_style, access, secret)


def gs_credentials(uri: str) -> GsCredentials | None:
    """Who we are at `uri`, which is gs://; None is whoever google-auth finds, or nobody.

    GS_CREDENTIALS_JSON goes first, then google-auth's own GOOGLE_APPLICATION_CREDENTIALS, then, in a pod, the Secret
    that `kfp-launcher` names for this bucket, unless it says `fromEnv`. An emulator (STORAGE_EMULATOR_HOST) needs none.

    Raises:
        StorageError: the Secret may not be read, or it does not hold what it should.
    """
    if text := os.environ.get(GS_CREDENTIALS):
        return GsCredentials(GS_CREDENTIALS, text)
    reference = _gs_secret(uri)
    if not reference:
        return None
    source = f"key {reference['key']} of the Secret {reference['name']}, which {LAUNCHER_CONFIG} names for gs,"
    value = (_kubernetes(f"secrets/{reference['name']}").get("data") or {}).get(reference["key"])
    if not value:
        raise StorageError(f"{source} does not exist or is empty")
    return GsCredentials(source, base64.b64decode(value).decode(errors="replace"))


def pod_environment(uri: str) -> list[dict]:
    """Variables, as in a pod's spec, with which a pod without any rights in the cluster reads the same `uri`.

    Empty where this process's own environment says where the store is, and for schemes that need nothing of the kind.
    """
    scheme = uri.partition("://")[0]
    if scheme == "gs":
        reference = _gs_secret(uri)
        return [{"name": GS_CREDENTIALS, "valueFrom": {"secretKeyRef": reference}}] if reference else []
    if scheme not in ("s3", "minio") or _endpoint(scheme):
        return []
    provider = _provider(uri)
    prefix = "MINIO_" if scheme == "minio" else "AWS_"
    found: list[dict[str, Any]] = []
    if provider.get("endpoint"):
        endpoint = _with_scheme(provider["endpoint"], not provider.get("disableSSL", False))
        found.append({"name": "MINIO_ENDPOINT" if scheme == "minio" else "AWS_ENDPOINT_URL_S3", "value": endpoint})
    if provider.get("region"):
        found.append({"name": "AWS_REGION", "value": provider["region"]})
    if reference := provider.get("credentials", {}).get("secretRef"):
        names = ("ACCESS_KEY", "SECRET_KEY") if scheme == "minio" else ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
        for name, key in zip(names, ("accessKeyKey", "secretKeyKey")):
            source = {"name": reference["secretName"], "key": reference[key]}
            found.append({"name": prefix + name, "valueFrom": {"secretKeyRef": source}})
    return found


def _endpoint(scheme: str) -> str | None:
    if scheme == "minio" and os.environ.get("MINIO_ENDPOINT"):
        return _with_scheme(os.environ["MINIO_ENDPOINT"], secure=False)
    if scheme == "minio" and _in_pod():
        return None
    found = _first("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_ENDPOINT")
    return _with_scheme(found, os.environ.get("S3_USE_HTTPS", "1") not in ("0", "false")) if found else None


def _in_pod() -> bool:
    return (SERVICE_ACCOUNT / "token").exists()


def _with_scheme(endpoint: str, secure: bool) -> str:
    return endpoint if "://" in endpoint else f"{'https' if secure else 'http'}://{endpoint}"


def _keys(scheme: str, provider: dict) -> tuple[str | None, str | None]:
    if scheme == "minio" and os.environ.get("MINIO_ACCESS_KEY"):
        return os.environ["MINIO_ACCESS_KEY"], os.environ.get("MINIO_SECRET_KEY", "")
    reference = provider.get("credentials", {}).get("secretRef")
    if not reference:
        return None, None
    secret = _kubernetes(f"secrets/{reference['secretName']}")
    data = {name: base64.b64decode(value).decode() for name, value in secret.get("data", {}).items()}
    return data.get(reference["accessKeyKey"]), data.get(reference["secretKeyKey"])


def _gs_secret(uri: str) -> dict | None:
    """Name and key of the Secret that kfp-launcher has for `uri`; None if it has none or the environment goes first."""
    if _first(GS_CREDENTIALS, "GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST"):
        return None
    credentials = _provider(uri).get("credentials") or {}
    reference = credentials.get("secretRef")
    if credentials.get("fromEnv") or not reference:
        return None
    if not reference.get("secretName") or not reference.get("tokenKey"):
        raise StorageError(f"{LAUNCHER_CONFIG} names a Secret for gs: add both secretName and tokenKey")
    return {"name": reference["secretName"], "key": reference["tokenKey"]}


def _provider(uri: str) -> dict:
    """What kfp-launcher says of `uri`: its scheme's default, and what `overrides` change of it for the bucket.

    Empty outside a cluster. As the launcher does, the first override that fits is taken, and credentials are never
    mixed of two entries (backend/src/v2/config/s3.go and gcs.go of Kubeflow Pipelines).
    """
    if not _in_pod():
        return {}
    scheme = uri.partition("://")[0]
    found = _providers().get(scheme) or {}
    if found.get("default"):
        override = next((entry for entry in _overrides(found) if _fits(entry, uri)), {})
        return {**found["default"], **{name: value for name, value in override.items() if value not in (None, "")}}
    return {**KFP_PROVIDER, "endpoint": kfp_store()} if scheme == "minio" else {}


@functools.lru_cache(1)
def kfp_store() -> str:
    """Host and port of the store that KFP brought: DNS tells, once per process, which of its names there is.

    KFP 2.15 with SeaweedFS has both, and so has an upgraded installation whose old store was left: the launcher's is
    then the first that takes a connection.

    Raises:
        StorageError: there is none of them; as TransientStorageError, DNS does not answer.
    """
    known = [address for address in KFP_STORES if retried(functools.partial(_resolves, address))]
    if not known:
        names = " nor ".join(address.partition(":")[0] for address in KFP_STORES)
        raise StorageError(
            f"the store of Kubeflow Pipelines is not found, there is neither {names}: "
            f"name yours as providers.minio of the ConfigMap {LAUNCHER_CONFIG}, or give the run another root"
        )
    return next((address for address in known[:-1] if _connects(address)), known[-1])


def has_host(endpoint: str) -> bool:
    """Whether DNS knows the host of an endpoint's URL; a DNS that does not answer leaves it open, so True."""
    parts = urlsplit(endpoint)
    try:
        return _resolves(f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}")
    except TransientStorageError:
        return True


def _resolves(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        return bool(socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM))
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise TransientStorageError(f"DNS does not say where {host} is: {error}") from error
        return False


def _connects(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _providers() -> dict:
    return _parsed(_kubernetes(f"configmaps/{LAUNCHER_CONFIG}").get("data", {}).get("providers") or "")


@functools.lru_cache(1)  # asked for at every request to the store
def _parsed(providers: str) -> dict:
    import yaml

    return yaml.safe_load(providers) or {}


def _overrides(provider: dict) -> list[dict]:
    return provider.get("overrides") or provider.get("Overrides") or []  # Go reads both


def _fits(override: dict, uri: str) -> bool:
    bucket, key = bucket_and_key(uri)
    prefix = (override.get("keyPrefix") or "").strip("/")
    return override.get("bucketName") == bucket and f"{key}/".startswith(f"{prefix}/" if prefix else "")


@functools.lru_cache
def _kubernetes(path: str) -> dict:
    """An object of this pod's namespace; empty if there is none.

    Raises:
        StorageError: it may not be read, or the cluster does not answer.
    """
    namespace = (SERVICE_ACCOUNT / "namespace").read_text().strip()
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "kubernetes.default.svc")
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    host = f"[{host}]" if ":" in host else host
    request = urllib.request.Request(
        f"https://{host}:{port}/api/v1/namespaces/{namespace}/{path}",
        headers={"Authorization": f"Bearer {(SERVICE_ACCOUNT / 'token').read_text().strip()}"},
    )
    trusted = ssl.create_default_context(cafile=str(SERVICE_ACCOUNT / "ca.crt"))

    def get() -> dict:
        try:
            with urllib.request.urlopen(request, timeout=10, context=trusted) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            return _refused(path, error.code)
        except OSError as error:
            raise TransientStorageError(f"the cluster does not say where the store is: {error}") from error

    return retried(get)


def _refused(path: str, status: int) -> dict:
    if status == 404 or path.startswith("configmaps/"):
        return {}  # then the defaults hold, and the environment
    if status in (401, 403):
        raise StorageError(f"may not read {path}: give the step's account the Role of manifests/base/rbac, or set keys")
    raise TransientStorageError(f"the cluster answered {status} when asked for {path}")


def _first(*names: str) -> str | None:
    return next((os.environ[name] for name in names if os.environ.get(name)), None)
