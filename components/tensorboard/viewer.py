"""How one gets from a run's page in the Kubeflow Pipelines UI to its curves, written before training starts.

The UI's server makes a Viewer, which the viewer controller runs as `tensorboard --logdir=<source>` in the image given
here, and shows it under an address of its own (frontend/server/handlers/tensorboard.ts). The UI of a full Kubeflow asks
it to at the button "Start TensorBoard" of an artifact named `mlpipeline_ui_metadata`; the standalone one of KFP 2.17
cannot ("Namespace is required"). So this step asks, and writes the address into a Markdown artifact, whose links work.
What the server does with `pod_template_spec` depends on its version: older ones take it in place of the administrator's
template; newer ones add its plain variables to that and withhold every Secret from an image that does not begin with
the UI's VIEWER_TENSORBOARD_TF_IMAGE_NAME.
"""

import json
import os
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlencode

from components.shared.kubernetes import in_step
from components.shared.storage import access
from components.shared.storage.access import KFP_PROVIDER, pod_environment, s3_settings

_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
# Where the viewer's pod finds the key for gs://, which TensorBoard takes as a file only.
_GOOGLE_KEY = "/var/secrets/google/key.json"
_README = """Training writes TensorBoard events to

    {uri}

while it runs, one folder a training (on a cluster) and model. To look at them:

    tensorboard --logdir {source}

or open the artifact `link` of the step named tensorboard in the Kubeflow Pipelines UI.
"""
# Where a step reaches the UI's server: in its own namespace, or where Kubeflow Pipelines usually is.
UI_SERVERS = ("http://ml-pipeline-ui.{namespace}", "http://ml-pipeline-ui.kubeflow")
_UI_SECONDS = 75  # the server itself waits for the Viewer for a minute
_LINK = """# [TensorBoard: the curves, while it trains]({path})

It may take half a minute to start. Should the link lead nowhere any more (Kubeflow Pipelines keeps the last 50
viewers), all runs are at http://localhost:6006 after

{forward}
"""
_NO_LINK = """# TensorBoard

The UI could not be asked for it ({reason}). Press "Start TensorBoard" at the artifact `mlpipeline_ui_metadata`, where
your UI has that button; or open http://localhost:6006, which shows all runs, after

{forward}
"""
# In two lines: the page beside a run's graph is not wide.
_FORWARD = "    kubectl -n {namespace} port-forward \\\n        service/museum-classifier-tensorboard 6006"


def write_viewer(
    logs_uri: str, logs_path: str, ui_metadata_path: str, link_path: str, viewer_image: str, secret_store: str = ""
) -> None:  # fmt: skip
    """Has the viewer started; writes its description, a page with the link to it, and a README into the logs' folder.

    Args:
        logs_uri: where training will write its events. TensorBoard knows a `minio://` store as `s3://` only.
        viewer_image: an image with TensorBoard and boto3 and without TensorFlow, whose own S3 ignores endpoints.
        secret_store: name of the Secret that this step's variables of the store, if it has any, come from.
    """
    scheme, _, rest = logs_uri.partition("://")
    source = f"s3://{rest}" if scheme == "minio" else logs_uri
    output: dict = {"type": "tensorboard", "source": source, "image": viewer_image}
    spec: dict = {"containers": [{}], "volumes": []}
    if source.startswith("s3://"):
        spec["containers"] = [{"env": _environment(logs_uri, secret_store)}]
    elif secrets := _secrets(logs_uri):
        spec = _with_key_file(secrets[0]["name"], secrets[0]["key"])
    output["pod_template_spec"] = {"spec": _restricted(spec)}
    Path(link_path).parent.mkdir(parents=True, exist_ok=True)
    Path(link_path).write_text(_page(output), encoding="utf-8")
    Path(ui_metadata_path).parent.mkdir(parents=True, exist_ok=True)
    Path(ui_metadata_path).write_text(json.dumps({"outputs": [output]}, indent=1), encoding="utf-8")
    # The artifact must have a file: an empty folder is not uploaded.
    Path(logs_path).mkdir(parents=True, exist_ok=True)
    Path(logs_path, "README.txt").write_text(_README.format(uri=logs_uri, source=source), encoding="utf-8")


def _page(output: dict) -> str:
    """The Markdown page that leads to the viewer, which is started for it."""
    if not in_step():
        return "# TensorBoard\n\n    python pipeline.py tensorboard\n"
    namespace = (access.SERVICE_ACCOUNT / "namespace").read_text().strip()
    forward = _FORWARD.format(namespace=namespace)
    query = {"logdir": output["source"], "image": output["image"], "namespace": namespace}
    query["podtemplatespec"] = json.dumps(output["pod_template_spec"])
    reason = ""
    for server in dict.fromkeys(address.format(namespace=namespace) for address in UI_SERVERS):
        try:
            return _LINK.format(path=_started(server, query), forward=forward)
        except (OSError, HTTPException) as error:
            reason = reason or f"{server}: {error}"
    print(f"warning: the UI does not start TensorBoard: {reason}", flush=True)
    return _NO_LINK.format(reason=reason, forward=forward)


def _started(server: str, query: dict[str, str]) -> str:
    """Path, below the UI's own address, of a viewer that its server has started. Raises OSError: it has not."""
    address = f"{server}/apps/tensorboard?{urlencode(query)}"
    # One that is there already: asked to make it again, the server takes the image's tag for another version.
    path = _proxy_path(_answer(address, "GET")) or _answer(address, "POST")
    if not path.startswith("apps/tensorboard/"):
        raise OSError("it is older than Kubeflow Pipelines 2.17 and tells no address")
    return path


def _answer(address: str, method: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(address, method=method), timeout=_UI_SECONDS) as response:
        return response.read(10_000).decode(errors="replace").strip()


def _proxy_path(answer: str) -> str:
    try:
        return str(json.loads(answer).get("proxyPath", ""))
    except (ValueError, AttributeError):
        return ""


def _restricted(spec: dict) -> dict:
    """The pod's spec as Pod Security "restricted" wants it, with a disk for what TensorBoard writes."""
    container, *others = spec["containers"]
    limits = {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}
    container = {
        **container,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": "50m", "memory": "256Mi", "ephemeral-storage": "64Mi"}, "limits": limits},
        "volumeMounts": [*container.get("volumeMounts", []), {"name": "tmp", "mountPath": "/tmp"}],
    }
    return {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container, *others],
        "volumes": [*spec.get("volumes", []), {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
    }


def _environment(logs_uri: str, secret_store: str) -> list[dict]:
    """How the viewer's pod reaches the store: address in the clear, keys by the name of the Secret that has them."""
    settings = s3_settings(logs_uri)
    plain = {"S3_ENDPOINT": settings.endpoint, "AWS_DEFAULT_REGION": settings.region}
    return [{"name": name, "value": value} for name, value in plain.items() if value] + _keys(logs_uri, secret_store)


def _keys(logs_uri: str, secret_store: str) -> list[dict]:
    scheme = logs_uri.partition("://")[0]
    if scheme == "s3" and os.environ.get("AWS_ACCESS_KEY_ID"):
        return [_reference(name, secret_store, name) for name in _KEYS if secret_store and os.environ.get(name)]
    # What kfp-launcher names. Other pods read a minio store's keys as MINIO_ACCESS_KEY; TensorBoard knows AWS's names.
    sources = _secrets(logs_uri)
    if not sources and scheme == "minio":
        secret = KFP_PROVIDER["credentials"]["secretRef"]
        sources = [{"name": secret["secretName"], "key": secret[field]} for field in ("accessKeyKey", "secretKeyKey")]
    return [_reference(name, source["name"], source["key"]) for name, source in zip(_KEYS, sources)]


def _secrets(logs_uri: str) -> list[dict]:
    return [entry["valueFrom"]["secretKeyRef"] for entry in pod_environment(logs_uri) if "valueFrom" in entry]


def _with_key_file(secret: str, key: str) -> dict:
    """A pod's spec in which TensorBoard finds this key of a Secret as Google's libraries look for it."""
    folder, name = os.path.split(_GOOGLE_KEY)
    container = {
        "env": [{"name": "GOOGLE_APPLICATION_CREDENTIALS", "value": _GOOGLE_KEY}],
        "volumeMounts": [{"name": "google", "mountPath": folder, "readOnly": True}],
    }
    items = [{"key": key, "path": name}]
    volume = {"name": "google", "secret": {"secretName": secret, "items": items, "optional": True}}
    return {"containers": [container], "volumes": [volume]}


def _reference(variable: str, secret: str, key: str) -> dict:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": True}}}
