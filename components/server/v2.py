"""The Open Inference Protocol (KServe V2, Triton): /v2. https://github.com/kserve/open-inference-protocol"""

import json
from typing import Any

import numpy as np
from starlette.responses import JSONResponse, Response

from components.artifacts.uncertainty import Decision
from components.server import tensors
from components.server.asked import Asked, route
from components.server.errors import RequestError
from components.server.names import checked_model, probabilities
from components.server.settings import MAX_PICTURES
from components.server.upload import from_base64, parse_json

INPUT = "images"


async def server(asked: Asked) -> Response:
    """The server's metadata."""
    return JSONResponse({"name": "museum-classifier", "version": "1", "extensions": ["binary_tensor_data"]})


async def live(asked: Asked) -> Response:
    """The process answers."""
    return JSONResponse({"live": True})


async def ready(asked: Asked) -> Response:
    """A worker answers only after it has predicted a real image: so whoever gets an answer here, it is yes."""
    return JSONResponse({"ready": True})


async def model(asked: Asked) -> Response:
    """The model's metadata."""
    name, classifier = checked_model(asked), asked.engine.classifier
    classes = len(classifier.labels)
    outputs = [
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, classes]},
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
        {"name": "labels", "datatype": "BYTES", "shape": [classes]},
    ]
    inputs = [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}]
    versions = {"name": name, "versions": ["1"], "platform": classifier.engine}
    return JSONResponse({**versions, "inputs": inputs, "outputs": outputs})


async def model_ready(asked: Asked) -> Response:
    """The model is ready: see `ready`."""
    return JSONResponse({"name": checked_model(asked), "ready": True})


async def infer(asked: Asked) -> Response:
    """Classifies the images of the one input, a BYTES tensor of encoded files (base64 in JSON)."""
    name, engine = checked_model(asked), asked.engine
    async with asked.received() as body:
        length = asked.headers.get("inference-header-content-length")
        content, pictures = await asked.aside(_read, body, length)
        rows, features = await asked.look(pictures)
    found: dict[str, np.ndarray | list[str]] = {
        "probabilities": rows,
        "label": [engine.best(row, 1)[0].label for row in rows],
        "labels": engine.classifier.labels,
    }
    coverage = _parameters(content).get("coverage")
    if coverage is not None:
        found |= _decided(engine.decide(rows, features, _number(coverage)))
    identity = {"id": content["id"]} if "id" in content else {}
    return _answer({"model_name": name, "model_version": "1", **identity}, found, content)


def _both(path: str, view, method: str = "GET") -> list:
    """The routes of a view with and without the model's version in the path."""
    model, version = "/v2/models/{name:model}", "/versions/{version}"
    return [route(model + path, view, method), route(model + version + path, view, method)]


routes = [
    route("/v2", server),
    route("/v2/health/live", live),
    route("/v2/health/ready", ready),
    *_both("", model),
    *_both("/ready", model_ready),
    *_both("/infer", infer, "POST"),
]


def _read(body: bytes, header_length: str | None) -> tuple[dict, list[bytes]]:
    """The request's JSON, and its images. Raises RequestError 400."""
    text, binary = tensors.split_body(body, header_length)
    content = parse_json(text)
    if not isinstance(content.get("id", ""), str):
        raise RequestError(400, "id must be a string", "bad_request")
    return content, _pictures(content, binary)


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


def _decided(decisions: list[Decision]) -> dict[str, np.ndarray | list[str]]:
    """As tensors, which have no null: an empty `label` and `reason`; `label_set` as JSON."""
    return {
        "label": [decision.label or "" for decision in decisions],
        "reason": [decision.reason or "" for decision in decisions],
        "label_set": [json.dumps(decision.labels, ensure_ascii=False) for decision in decisions],
    }


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RequestError(400, "the parameter coverage must be a number between 0 and 1, such as 0.9", "bad_coverage")
    return float(value)


def _binary(tensor: dict, binary: bytes) -> list[bytes]:
    size = _parameters(tensor)["binary_data_size"]
    if size != len(binary):
        raise RequestError(400, f"binary_data_size is {str(size)[:20]}, but {len(binary)} bytes came", "bad_request")
    return tensors.elements(binary, MAX_PICTURES)


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
