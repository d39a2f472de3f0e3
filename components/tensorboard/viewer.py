"""What the Kubeflow Pipelines UI needs to offer TensorBoard for a run, written before training starts.

The UI reads an artifact named `mlpipeline_ui_metadata`; its button "Start TensorBoard" creates a Viewer from it, which
the viewer controller runs as `tensorboard --logdir=<source>` in the image given here (as arguments up to KFP 2.15, so
the image has no entry point). What it does with `pod_template_spec` depends on the version: the older takes it in place
of the administrator's template; the newer adds its plain variables to it and withholds every secret from an image that
does not begin with the UI's VIEWER_TENSORBOARD_TF_IMAGE_NAME.
"""

import json
from pathlib import Path

from components.shared.storage_settings import DEFAULT_MINIO, s3_settings

_README = """Training writes TensorBoard events to

    {uri}

while it runs, one folder a model. To look at them:

    tensorboard --logdir {source}

or press "Start TensorBoard" on the step named tensorboard in the Kubeflow Pipelines UI.
"""


def write_viewer(logs_uri: str, logs_path: str, ui_metadata_path: str, viewer_image: str) -> None:
    """Writes the viewer's description to `ui_metadata_path`, and a README into the folder `logs_path`.

    Args:
        logs_uri: where training will write its events. TensorBoard knows a `minio://` store as `s3://` only.
        viewer_image: an image with TensorBoard and boto3 and without TensorFlow, whose own S3 ignores endpoints.
    """
    scheme, _, rest = logs_uri.partition("://")
    source = f"s3://{rest}" if scheme == "minio" else logs_uri
    output: dict = {"type": "tensorboard", "source": source, "image": viewer_image}
    if source.startswith("s3://"):
        output["pod_template_spec"] = {"spec": {"containers": [{"env": _environment(scheme)}]}}
    Path(ui_metadata_path).parent.mkdir(parents=True, exist_ok=True)
    Path(ui_metadata_path).write_text(json.dumps({"outputs": [output]}, indent=1), encoding="utf-8")
    # The artifact must have a file: an empty folder is not uploaded.
    Path(logs_path).mkdir(parents=True, exist_ok=True)
    Path(logs_path, "README.txt").write_text(_README.format(uri=logs_uri, source=source), encoding="utf-8")


def _environment(scheme: str) -> list[dict]:
    """How the viewer's pod reaches the store: address in the clear, keys by the name of the Secret that has them."""
    settings = s3_settings(scheme)
    plain = {"S3_ENDPOINT": settings.endpoint, "AWS_DEFAULT_REGION": settings.region}
    variables = [{"name": name, "value": value} for name, value in plain.items() if value]
    if scheme == "minio":
        variables += [_secret("AWS_ACCESS_KEY_ID", "accessKeyKey"), _secret("AWS_SECRET_ACCESS_KEY", "secretKeyKey")]
    return variables


def _secret(variable: str, field: str) -> dict:
    reference = DEFAULT_MINIO["credentials"]["secretRef"]
    key = {"name": reference["secretName"], "key": reference[field], "optional": True}
    return {"name": variable, "valueFrom": {"secretKeyRef": key}}
