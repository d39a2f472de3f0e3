"""TensorFlow Serving's REST API, which is KServe's V1 protocol: /v1/models/<name>.

https://www.tensorflow.org/tfx/serving/api_rest,
https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol
"""

from flask import Blueprint, Response, g, jsonify, request

from components.server.application import current_app
from components.server.errors import RequestError
from components.server.names import checked_model, probabilities
from components.server.settings import MAX_PICTURES
from components.server.upload import announced_size, from_base64, parse_json, read_body

blueprint = Blueprint("v1", __name__, url_prefix="/v1/models")


@blueprint.get("")
def models() -> Response:
    """The models of this server: one."""
    return jsonify(models=[current_app.settings.name])


@blueprint.get("/<model:name>")
@blueprint.get("/<model:name>/versions/1")
def status(name: str) -> Response:
    """Whether the model is ready, in the words of KServe and of TensorFlow Serving."""
    checked_model(name)
    state = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    return jsonify(name=name, ready=True, model_version_status=[state])


@blueprint.get("/<model:name>/metadata")
def metadata(name: str) -> Response:
    """What goes in and comes out, and the model card."""
    checked_model(name)
    classifier = current_app.engine.classifier
    row = {"dim": [{"size": "-1"}, {"size": str(len(classifier.labels))}]}
    signature = {
        "inputs": {"image_bytes": {"dtype": "DT_STRING", "tensor_shape": {"dim": [{"size": "-1"}]}}},
        "outputs": {
            "probabilities": {"dtype": "DT_FLOAT", "tensor_shape": row},
            "labels": {"dtype": "DT_STRING", "tensor_shape": row},
        },
    }
    signatures = {"signature_def": {"signature_def": {"serving_default": signature}}}
    return jsonify(
        model_spec={"name": name, "version": "1"}, metadata=signatures, labels=classifier.labels, card=classifier.card
    )


@blueprint.get("/<model:name>/histogram")
def histogram(name: str) -> Response:
    """The newest predictions of all workers: what drift is measured by."""
    checked_model(name)
    return jsonify(current_app.monitor.histogram())


@blueprint.post("/<model:name>:predict")
@blueprint.post("/<model:name>/versions/1:predict")
def predict(name: str) -> Response:
    """Probabilities of `instances` (a row each) or `inputs` (columns): pictures as `{"b64": "..."}`.

    As TensorFlow Serving answers for the SavedModel: `probabilities` and `labels`, a list of all classes for each
    picture. A row also has the likeliest `label` and its `probability`.
    """
    checked_model(name)
    engine = current_app.engine
    with engine.admitted(announced_size(request)):
        content = parse_json(request, read_body(request))
        _check_signature(content)
        rows = engine.predict(_pictures(content), g.until, g.counted)
    labels = engine.classifier.labels
    if "inputs" in content:
        return jsonify(outputs={"probabilities": probabilities(rows), "labels": [labels] * len(rows)})
    predictions = [
        {**vars(engine.best(row, 1)[0]), "probabilities": values, "labels": labels}
        for row, values in zip(rows, probabilities(rows))
    ]
    return jsonify(predictions=predictions)


def _check_signature(content: dict) -> None:
    name = content.get("signature_name", "serving_default")
    if name not in ("", "serving_default"):
        raise RequestError(400, f"no signature {str(name)[:40]!r}; there is serving_default", "bad_request")


def _pictures(content: dict) -> list[bytes]:
    if ("instances" in content) == ("inputs" in content):
        raise RequestError(400, 'give "instances" (or "inputs"): [{"b64": "..."}]', "bad_request")
    values = content.get("instances", content.get("inputs"))
    if isinstance(values, dict) and "b64" not in values and len(values) == 1:
        values = next(iter(values.values()))  # {"images": [...]}: the input's name is of no matter, there is one
    if isinstance(values, dict):
        values = [values]
    if not isinstance(values, list) or not 1 <= len(values) <= MAX_PICTURES:
        raise RequestError(400, f"give 1 to {MAX_PICTURES} pictures as a list", "bad_request")
    return [_picture(value) for value in values]


def _picture(value: object) -> bytes:
    """`{"b64": text}`, or that under the name of the input."""
    for _ in range(2):
        if not isinstance(value, dict) or len(value) != 1:
            break
        name, value = next(iter(value.items()))
        if name == "b64":
            return from_base64(value)
    raise RequestError(400, 'each picture must be {"b64": "<base64 of the file>"}', "bad_request")
