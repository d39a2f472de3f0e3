"""The checks of `pipeline.py doctor` of the store: where steps and KFP's launcher go, and whether it answers."""

import base64
import contextlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import yaml

from cli.diagnosis import Check, Finding, Patient
from cli.store_keys import Keys, Place, refusals
from components.shared import kubernetes
from components.shared.errors import PipelineError
from components.shared.storage.access import KFP_PROVIDER, KFP_STORES, LAUNCHER_CONFIG

DEFAULT_ROOT = "minio://mlpipeline/v2/artifacts"
SECONDS = 5
_STORE_SECRET = "museum-classifier-store"
_CORRECT = f"correct the endpoint in the ConfigMap {LAUNCHER_CONFIG}"


def store(patient: Patient) -> Iterator[Finding]:
    """The store of the pipeline root: endpoint and Secret, whether it answers, and whether all mean the same one."""
    data = (patient.own(f"configmaps/{LAUNCHER_CONFIG}") or {}).get("data") or {}
    root = patient.root or data.get("defaultPipelineRoot") or DEFAULT_ROOT
    scheme, _, rest = root.partition("://")
    if scheme not in ("minio", "s3", "gs") or not rest.partition("/")[0]:
        yield Finding("mend", "Store", f"pipeline root {root} is no store: give --root s3://BUCKET/PREFIX, or gs://")
        return
    try:
        providers = yaml.safe_load(data.get("providers") or "") or {}
    except yaml.YAMLError as error:
        words = " ".join(str(error).split())
        yield Finding("mend", "Store", f"providers of the ConfigMap {LAUNCHER_CONFIG} is no YAML: {words}")
        return
    provider = _provider(providers.get(scheme) or {}, rest)
    if scheme == "gs":
        yield from _google(patient, root, provider)
        return
    if scheme == "minio" and not provider:
        endpoint = _kfp_store(patient)
        if not endpoint:
            yield Finding("mend", "Store", f"{root}: there is neither {' nor '.join(KFP_STORES)}, and "
                          f"{LAUNCHER_CONFIG} names no other: add providers.minio, or give --root")  # fmt: skip
            return
        provider = {**KFP_PROVIDER, "endpoint": endpoint}
    yield from _secret(patient, root, provider)
    yield from _same(patient, scheme, provider)
    answer = _answers(patient, root, provider)
    yield answer
    if answer.state == "ok" and provider.get("endpoint"):
        yield from _refused_keys(patient, root, provider)


def _provider(found: dict[str, Any], rest: str) -> dict[str, Any]:
    """The launcher's default for a scheme, with the override for the bucket."""
    default = found.get("default") or {}
    bucket, _, key = rest.partition("/")
    for entry in found.get("overrides") or found.get("Overrides") or []:
        if entry.get("bucketName") == bucket and key.startswith(entry.get("keyPrefix") or ""):
            return {**default, **{name: value for name, value in entry.items() if value not in (None, "")}}
    return default


def _kfp_store(patient: Patient) -> str:
    for address in KFP_STORES:
        name, _, namespace = address.partition(":")[0].partition(".")
        if patient.of(f"/api/v1/namespaces/{namespace}/services/{name}"):
            return address
    return ""


def _secret(patient: Patient, root: str, provider: dict[str, Any]) -> Iterator[Finding]:
    reference = (provider.get("credentials") or {}).get("secretRef") or {}
    name = reference.get("secretName")
    if not name or (provider.get("credentials") or {}).get("fromEnv"):
        return
    keys = [reference.get("accessKeyKey"), reference.get("secretKeyKey")]
    try:
        found = patient.own(f"secrets/{name}")
    except kubernetes.Forbidden:
        yield Finding("unknown", "Store", f"you may not look at the Secret {name}, with which {root} is reached")
        return
    if found is None:
        where = f"{name} in {patient.cluster.namespace}"
        yield Finding("mend", "Store", f"there is no Secret {where}, with which {root} is reached: create it")
        return
    if missing := [key for key in keys if not (found.get("data") or {}).get(key or "")]:
        yield Finding("mend", "Store", f"the Secret {name} has no {' and no '.join(map(str, missing))}")


def _same(patient: Patient, scheme: str, provider: dict[str, Any]) -> Iterator[Finding]:
    """For s3:// the steps take the endpoint of secret_store first: the launcher's has to be the same."""
    if scheme != "s3":
        return
    try:
        data = (patient.own(f"secrets/{_STORE_SECRET}") or {}).get("data") or {}
    except kubernetes.Forbidden:
        yield Finding("unknown", "Store", f"you may not look at the Secret {_STORE_SECRET} (secret_store)")
        return
    told = base64.b64decode(data.get("AWS_ENDPOINT_URL_S3", "")).decode(errors="replace")
    ours, launchers = _bare(told), _bare(provider.get("endpoint") or "")
    if ours and launchers and ours != launchers:
        yield Finding("mend", "Store", f"steps go to {ours} (Secret {_STORE_SECRET}) and KFP's launcher to {launchers} "
                      f"(ConfigMap {LAUNCHER_CONFIG}): name the same in both")  # fmt: skip
    if not launchers and not data:
        yield Finding("note", "Store", f"s3:// without providers.s3 in {LAUNCHER_CONFIG} and without the Secret "
                      f"{_STORE_SECRET} is AWS, by workload identity")  # fmt: skip


def _google(patient: Patient, root: str, provider: dict[str, Any]) -> Iterator[Finding]:
    reference = (provider.get("credentials") or {}).get("secretRef") or {}
    if reference.get("secretName"):
        yield from _secret(patient, root, {"credentials": {"secretRef": {
            "secretName": reference["secretName"], "accessKeyKey": reference.get("tokenKey"),
            "secretKeyKey": reference.get("tokenKey")}}})  # fmt: skip
    how = f"the Secret {reference['secretName']}" if reference.get("secretName") else "workload identity"
    yield Finding("ok", "Store", f"{root} on Google Cloud Storage, by {how}")


def _refused_keys(patient: Patient, root: str, provider: dict[str, Any]) -> Iterator[Finding]:
    """Keys that the store does not take: those of KFP's launcher, and for s3:// those of the steps."""
    bare, service = _bare(provider["endpoint"]), _service(patient, provider["endpoint"])
    base = "/api/v1/namespaces/{1}/services/{0}:{2}/proxy".format(*service) if service else _url(provider)
    place = Place(root, bare, base, provider.get("region") or "us-east-1")
    credentials = provider.get("credentials") or {}
    reference = credentials.get("secretRef") or {}
    secrets = []
    if reference.get("secretName") and not credentials.get("fromEnv"):
        names = (reference.get("accessKeyKey") or "", reference.get("secretKeyKey") or "")
        secrets.append(Keys(reference["secretName"], names))
    if root.startswith("s3://"):
        secrets.append(Keys(_STORE_SECRET, ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")))
    for keys in secrets:
        with contextlib.suppress(kubernetes.Forbidden):  # which was said above
            yield from refusals(patient, place, keys)


def _service(patient: Patient, endpoint: str) -> tuple[str, str, str] | None:
    """(name, namespace, port) if the endpoint is a Service of the cluster."""
    host, _, port = _bare(endpoint).partition(":")
    name, *domain = host.split(".")
    if domain and domain[1:2] not in ([], ["svc"]):
        return None
    return name, domain[0] if domain else patient.cluster.namespace, port or "80"


def _url(provider: dict[str, Any]) -> str:
    endpoint = provider["endpoint"]
    secure = endpoint.startswith("https://") or ("://" not in endpoint and not provider.get("disableSSL"))
    return f"http{'s' if secure else ''}://{_bare(endpoint)}"


def _answers(patient: Patient, root: str, provider: dict[str, Any]) -> Finding:
    """Whether anybody is at the endpoint: in the cluster, asked through its API server, or else from here."""
    if not provider.get("endpoint"):
        return Finding("ok", "Store", f"{root} on AWS")
    bare = _bare(provider["endpoint"])
    if service := _service(patient, provider["endpoint"]):
        return _in_cluster(patient, root, *service)
    try:
        urllib.request.urlopen(f"{_url(provider)}/", timeout=SECONDS).close()
    except urllib.error.HTTPError:
        pass  # it wants a signature, so it is there
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "reason", error)
        return Finding("unknown", "Store", f"{root} at {bare} does not answer here ({why}); the cluster may reach it")
    return Finding("ok", "Store", f"{root} at {bare}, which answers here")


def _in_cluster(patient: Patient, root: str, name: str, namespace: str, port: str) -> Finding:
    where = f"{name}.{namespace}:{port}"
    service = patient.of(f"/api/v1/namespaces/{namespace}/services/{name}")
    if service is None:
        return Finding("mend", "Store", f"{root}: there is no Service {name} in {namespace}: {_CORRECT}")
    ports = [str(entry.get("port")) for entry in service["spec"].get("ports") or []]
    if port not in ports:
        known = ", ".join(ports)
        return Finding("mend", "Store", f"{root}: Service {name} has no port {port}, it has {known}: {_CORRECT}")
    try:
        patient.cluster.look(f"/api/v1/namespaces/{namespace}/services/{name}:{port}/proxy/")
    except kubernetes.Forbidden as error:
        # The store's own word is XML; Kubernetes' is not.
        if "AccessDenied" not in str(error) and "SignatureDoesNotMatch" not in str(error):
            return _by_endpoints(patient, root, name, namespace, where)
    except kubernetes.NotThere:
        pass
    except PipelineError as error:  # 502 and 503 pass, mostly, but not by themselves while somebody looks
        return Finding("mend", "Store", f"{root} at {where} does not answer: {error}")
    return Finding("ok", "Store", f"{root} at {where}, which answers")


def _by_endpoints(patient: Patient, root: str, name: str, namespace: str, where: str) -> Finding:
    """You may not go through the API server: then whether a pod is ready behind the Service."""
    found = patient.of(f"/api/v1/namespaces/{namespace}/endpoints/{name}") or {}
    if any(subset.get("addresses") for subset in found.get("subsets") or []):
        return Finding("ok", "Store", f"{root} at {where}, which has a pod that is ready")
    return Finding("mend", "Store", f"{root} at {where}: no pod is ready behind it")


def _bare(endpoint: str) -> str:
    return endpoint.partition("://")[2].rstrip("/") if "://" in endpoint else endpoint.rstrip("/")


CHECKS: tuple[Check, ...] = (store,)
