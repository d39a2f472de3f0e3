"""The Open Inference Protocol (KServe V2, Triton): /v2. https://github.com/kserve/open-inference-protocol"""

from typing import Any

import numpy as np
from flask import Blueprint, Response, g, jsonify, request

from components.server import tensors
from components.server.application import current_app
from components.server.errors import RequestError
from components.server.names import checked_model, probabilities
from components.server.settings import MAX_PICTURES
from components.server.upload import announced_size, from_base64, parse_json, read_body

blueprint = Blueprint("v2", __name__, url_prefix="/v2")
INPUT = "images"


@blueprint.get("")
def server() -> Response:
    """The server's metadata."""
    return jsonify(name="museum-classifier", version="1", extensions=["binary_tensor_data"])


@blueprint.get("/health/live")
def live() -> Response:
    """The process answers."""
    return jsonify(live=True)


@blueprint.get("/health/ready")
def ready() -> Response:
    """A worker answers only after it has predicted a real picture: so whoever gets an answer here, it is yes."""
    return jsonify(ready=True)


@blueprint.get("/models/<model:name>")
@blueprint.get("/models/<model:name>/versions/<version>")
def model(name: str, version: str | None = None) -> Response:
    """The model's metadata."""
    checked_model(name, version)
    classes = len(current_app.engine.classifier.labels)
    return jsonify(
        name=name,
        versions=["1"],
        platform=current_app.engine.classifier.engine,
        inputs=[{"name": INPUT, "datatype": "BYTES", "shape": [-1]}],
        outputs=[
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, classes]},
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {"name": "labels", "datatype": "BYTES", "shape": [classes]},
        ],
    )


@blueprint.get("/models/<model:name>/ready")
@blueprint.get("/models/<model:name>/versions/<version>/ready")
def model_ready(name: str, version: str | None = None) -> Response:
    """The model is ready: see `ready`."""
    checked_model(name, version)
    return jsonify(name=name, ready=True)


@blueprint.post("/models/<model:name>/infer")
@blueprint.post("/models/<model:name>/versions/<version>/infer")
def infer(name: str, version: str | None = None) -> Response:
    """Classifies the pictures of the one input, a BYTES tensor of encoded files (base64 in JSON)."""
    checked_model(name, version)
    engine = current_app.engine
    with engine.admitted(announced_size(request)):
        length = request.headers.get("Inference-Header-Content-Length")
        text, binary = tensors.split_body(read_body(request), length)
        content = parse_json(request, text)
        if not isinstance(content.get("id", ""), str):
            raise RequestError(400, "id must be a string", "bad_request")
        rows = engine.predict(_pictures(content, binary), g.until, g.counted)
    found: dict[str, np.ndarray | list[str]] = {
        "probabilities": rows,
        "label": [engine.best(row, 1)[0].label for row in rows],
        "labels": engine.classifier.labels,
    }
    identity = {"id": content["id"]} if "id" in content else {}
    return _answer({"model_name": name, "model_version": "1", **identity}, found, content)


def _pictures(content: dict, binary: bytes) -> list[bytes]:
    inputs = content.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise RequestError(400, f'give one input: {{"name": "{INPUT}", "datatype": "BYTES", ...}}', "bad_request")
    tensor = inputs[0]
    if tensor.get("name") != INPUT or tensor.get("datatype") != "BYTES":
        raise RequestError(400, f"the one input is {INPUT}, of datatype BYTES: encoded pictures", "bad_request")
    pictures = _binary(tensor, binary) if _parameters(tensor).get("binary_data_size") is not None else _json(tensor)
    shape = tensor.get("shape")
    if shape not in ([len(pictures)], [len(pictures), 1]) or not 1 <= len(pictures) <= MAX_PICTURES:
        message = f"{INPUT} has {len(pictures)} elements, its shape says {str(shape)[:40]}: send 1 to {MAX_PICTURES}"
        raise RequestError(400, message, "bad_request")
    return pictures


def _binary(tensor: dict, binary: bytes) -> list[bytes]:
    size = _parameters(tensor)["binary_data_size"]
    if size != len(binary):
        raise RequestError(400, f"binary_data_size is {str(size)[:20]}, but {len(binary)} bytes came", "bad_request")
    return tensors.elements(binary)


def _json(tensor: dict) -> list[bytes]:
    data = tensor.get("data")
    if not isinstance(data, list):
        raise RequestError(400, "the input has no data: give a list of base64 strings", "bad_request")
    flat = [value for row in data for value in (row if isinstance(row, list) else [row])]
    return [from_base64(value) for value in flat]


def _answer(header: dict, found: dict[str, np.ndarray | list[str]], content: dict) -> Response:
    wanted = _wanted(found, content)
    outputs, binaries = [], []
    for name, binary in wanted:
        values = found[name]
        output: dict[str, Any] = {"name": name, "datatype": "FP32" if name == "probabilities" else "BYTES"}
        output["shape"] = list(np.shape(values))
        if binary:
            binaries.append(tensors.to_binary(values))
            output["parameters"] = {"binary_data_size": len(binaries[-1])}
        else:
            output["data"] = sum(probabilities(values), []) if isinstance(values, np.ndarray) else values
        outputs.append(output)
    body, headers = tensors.join_body({**header, "outputs": outputs}, binaries)
    return Response(body, headers=headers)


def _wanted(found: dict, content: dict) -> list[tuple[str, bool]]:
    """Name of each wanted output, and whether in binary form."""
    by_default = _parameters(content).get("binary_data_output") is True
    outputs = content.get("outputs") or [{"name": name} for name in found]
    wanted = []
    for output in outputs if isinstance(outputs, list) else [None]:
        if not isinstance(output, dict) or output.get("name") not in found:
            raise RequestError(400, f"unknown output; there are {', '.join(found)}", "bad_request")
        wanted.append((output["name"], _parameters(output).get("binary_data", by_default) is True))
    return wanted


def _parameters(part: dict) -> dict:
    parameters = part.get("parameters", {})
    if not isinstance(parameters, dict):
        raise RequestError(400, "parameters must be an object", "bad_request")
    return parameters
