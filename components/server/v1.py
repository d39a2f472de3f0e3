"""TensorFlow Serving's REST API, which is KServe's V1 protocol: /v1/models/<name>.

https://www.tensorflow.org/tfx/serving/api_rest,
https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol
"""

from starlette.responses import JSONResponse, Response

from components.server.asked import Asked, route
from components.server.errors import RequestError
from components.server.names import checked_model, probabilities
from components.server.settings import MAX_PICTURES
from components.server.upload import from_base64, parse_json


async def models(asked: Asked) -> Response:
    """The models of this server: one."""
    return JSONResponse({"models": [asked.settings.name]})


async def status(asked: Asked) -> Response:
    """Whether the model is ready, in the words of KServe and of TensorFlow Serving."""
    name = checked_model(asked)
    state = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    return JSONResponse({"name": name, "ready": True, "model_version_status": [state]})


async def metadata(asked: Asked) -> Response:
    """What goes in and comes out, and the model card."""
    name, classifier = checked_model(asked), asked.engine.classifier
    row = {"dim": [{"size": "-1"}, {"size": str(len(classifier.labels))}]}
    signature = {
        "inputs": {"image_bytes": {"dtype": "DT_STRING", "tensor_shape": {"dim": [{"size": "-1"}]}}},
        "outputs": {
            "probabilities": {"dtype": "DT_FLOAT", "tensor_shape": row},
            "labels": {"dtype": "DT_STRING", "tensor_shape": row},
        },
    }
    signatures = {"signature_def": {"signature_def": {"serving_default": signature}}}
    model = {"model_spec": {"name": name, "version": "1"}, "metadata": signatures}
    return JSONResponse({**model, "labels": classifier.labels, "card": classifier.card})


async def histogram(asked: Asked) -> Response:
    """The newest predictions of all workers: what drift is measured by."""
    checked_model(asked)
    return JSONResponse(asked.service.monitor.histogram())


async def predict(asked: Asked) -> Response:
    """Probabilities of `instances` (a row each) or `inputs` (columns): images as `{"b64": "..."}`.

    As TensorFlow Serving answers for the SavedModel: `probabilities` and `labels`, a list of all classes for each
    image. A row also has the likeliest `label` and its `probability`; with the parameter `coverage` it has that label
    or none.
    """
    checked_model(asked)
    engine, coverage = asked.engine, asked.coverage
    async with asked.received() as body:
        content, pictures = await asked.aside(_read, body)
        rows, features = await asked.look(pictures)
    labels = engine.classifier.labels
    decisions = [] if coverage is None else engine.decide(rows, features, coverage)
    decided = [decision.fields() for decision in decisions] or [{}] * len(rows)
    if "inputs" in content:
        columns = {name: [decision[name] for decision in decided] for name in decided[0]}
        outputs = {"probabilities": probabilities(rows), "labels": [labels] * len(rows)}
        return JSONResponse({"outputs": outputs | columns})
    predictions = [
        {**vars(engine.best(row, 1)[0]), "probabilities": values, "labels": labels, **decision}
        for row, values, decision in zip(rows, probabilities(rows), decided)
    ]
    return JSONResponse({"predictions": predictions})


routes = [
    route("/v1/models", models),
    route("/v1/models/{name:model}", status),
    route("/v1/models/{name:model}/versions/1", status),
    route("/v1/models/{name:model}/metadata", metadata),
    route("/v1/models/{name:model}/histogram", histogram),
    route("/v1/models/{name:model}:predict", predict, "POST"),
    route("/v1/models/{name:model}/versions/1:predict", predict, "POST"),
]


def _read(body: bytes) -> tuple[dict, list[bytes]]:
    """The request's JSON, and its images. Raises RequestError 400."""
    content = parse_json(body)
    _check_signature(content)
    return content, _pictures(content)


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
