"""What the Kubeflow Pipelines UI needs to offer TensorBoard for a run, written before training starts.

The UI reads an artifact named `mlpipeline_ui_metadata`; its button "Start TensorBoard" creates a Viewer from it, which
the viewer controller runs as `tensorboard --logdir=<source>` in the image given here (as arguments up to KFP 2.15, so
the image has no entry point). What it does with `pod_template_spec` depends on the version: the older takes it in place
of the administrator's template; the newer adds its plain variables to it and withholds every secret from an image that
does not begin with the UI's VIEWER_TENSORBOARD_TF_IMAGE_NAME.
"""

import json
import os
from pathlib import Path

from components.shared.storage.access import KFP_PROVIDER, pod_environment, s3_settings

_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
# Where the viewer's pod finds the key for gs://, which TensorBoard takes as a file only.
_GOOGLE_KEY = "/var/secrets/google/key.json"
_README = """Training writes TensorBoard events to

    {uri}

while it runs, one folder a training (on a cluster) and model. To look at them:

    tensorboard --logdir {source}

or press "Start TensorBoard" on the step named tensorboard in the Kubeflow Pipelines UI.
"""


def write_viewer(
    logs_uri: str, logs_path: str, ui_metadata_path: str, viewer_image: str, store_secret: str = ""
) -> None:  # fmt: skip
    """Writes the viewer's description to `ui_metadata_path`, and a README into the folder `logs_path`.

    Args:
        logs_uri: where training will write its events. TensorBoard knows a `minio://` store as `s3://` only.
        viewer_image: an image with TensorBoard and boto3 and without TensorFlow, whose own S3 ignores endpoints.
        store_secret: name of the Secret that this step's variables of the store, if it has any, come from.
    """
    scheme, _, rest = logs_uri.partition("://")
    source = f"s3://{rest}" if scheme == "minio" else logs_uri
    output: dict = {"type": "tensorboard", "source": source, "image": viewer_image}
    if source.startswith("s3://"):
        output["pod_template_spec"] = {"spec": {"containers": [{"env": _environment(logs_uri, store_secret)}]}}
    elif secrets := _secrets(logs_uri):
        output["pod_template_spec"] = {"spec": _with_key_file(secrets[0]["name"], secrets[0]["key"])}
    Path(ui_metadata_path).parent.mkdir(parents=True, exist_ok=True)
    Path(ui_metadata_path).write_text(json.dumps({"outputs": [output]}, indent=1), encoding="utf-8")
    # The artifact must have a file: an empty folder is not uploaded.
    Path(logs_path).mkdir(parents=True, exist_ok=True)
    Path(logs_path, "README.txt").write_text(_README.format(uri=logs_uri, source=source), encoding="utf-8")


def _environment(logs_uri: str, store_secret: str) -> list[dict]:
    """How the viewer's pod reaches the store: address in the clear, keys by the name of the Secret that has them."""
    settings = s3_settings(logs_uri)
    plain = {"S3_ENDPOINT": settings.endpoint, "AWS_DEFAULT_REGION": settings.region}
    return [{"name": name, "value": value} for name, value in plain.items() if value] + _keys(logs_uri, store_secret)


def _keys(logs_uri: str, store_secret: str) -> list[dict]:
    scheme = logs_uri.partition("://")[0]
    if scheme == "s3" and os.environ.get("AWS_ACCESS_KEY_ID"):
        return [_reference(name, store_secret, name) for name in _KEYS if store_secret and os.environ.get(name)]
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
