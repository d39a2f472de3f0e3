"""The OpenAPI document: what every route takes and answers."""

import base64
from typing import Any

import numpy as np

from components.server.settings import MAX_PICTURES, MOST_WORKS, ServerSettings
from components.shared import imaging

Schema = dict[str, Any]

_PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
_BASE64 = {"type": "string", "contentEncoding": "base64", "description": "the file of a picture, in base64"}
_OF_ONE_PICTURE = (400, 403, 404, 408, 413, 415, 422, 503)
_REFUSALS = {
    400: "The request is not understood.",
    404: "There is no such model, or it has no works to compare with.",
    408: "The request took too long to arrive.",
    413: "Too many bytes or pixels.",
    415: "This is no picture.",
    422: "A picture that cannot be read, or a URL that cannot be fetched.",
    429: "Too many corrections: try again after Retry-After seconds.",
    503: "All workers are busy: try again after Retry-After seconds.",
}


_EXPLAIN = {
    "name": "explain",
    "in": "query",
    "description": "1 for `explanation`: what the likeliest label hangs on, as a heat map of what the model saw.",
    "schema": {"type": "string", "enum": ["0", "1"], "default": "0"},
}
_COVERAGE = {
    "name": "coverage",
    "in": "query",
    "description": "One label or none: `label` is null and `reason` uncertain where `label_set`, which holds the truth "
    "with this probability, has not one member, or where the picture is unlike what was learned from.",
    "schema": {"type": "number", "minimum": 0.01, "maximum": 0.999},
}


def document(settings: ServerSettings, labels: list[str], has_works: bool) -> Schema:
    """OpenAPI 3.1 for this server: the model's own name and labels stand in the paths and examples.

    `has_works`: whether it has works to compare with.
    """
    name = settings.name
    return {
        "openapi": "3.1.0",
        # Relative to this document: an ingress may have put all of it below a path.
        "servers": [{"url": "./"}],
        "info": {
            "title": name,
            "version": "1",
            "description": f"Classifies a picture as one of {len(labels)} classes: {', '.join(labels[:20])}"
            + (", ..." if len(labels) > 20 else "."),
        },
        "paths": {
            **_plain_paths(has_works, bool(settings.corrections)),
            **_v1_paths(f"/v1/models/{name}"),
            **_v2_paths(f"/v2/models/{name}"),
        },
        "components": {"schemas": {"Error": _object(error={"type": "string"}, reason={"type": "string"})}},
    }


def _plain_paths(has_works: bool, has_corrections: bool) -> Schema:
    prediction = _object(label={"type": "string"}, probability=_PROBABILITY)
    answer = _object(
        model={"type": "string"}, version={"type": "string"}, predictions={"type": "array", "items": prediction}
    )
    answer["properties"] |= {
        "label": {"type": ["string", "null"]},
        "reason": {"type": ["string", "null"]},
        "label_set": {"type": "array", "items": {"type": "string"}},
        "unlike": {"type": "boolean"},
    }
    picture = {"type": "string", "format": "binary"}
    by_url = {"type": "object", "properties": {"url": {"type": "string", "format": "uri"}}, "required": ["url"]}
    by_base64 = {"type": "object", "properties": {"b64": _BASE64}, "required": ["b64"]}
    upload = {"type": "object", "properties": {"file": picture}, "required": ["file"]}
    content = {
        "multipart/form-data": {"schema": upload},
        "application/octet-stream": {"schema": picture},
        "image/*": {"schema": picture},
        "application/json": {"schema": {"oneOf": [by_url, by_base64]}, "example": {"b64": _example_picture()}},
    }
    top = {
        "name": "top",
        "in": "query",
        "description": "How many labels to answer with.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 999_999, "default": 5},
    }
    answer["properties"] |= {"works": _WORKS} if has_works else {}
    classify = _operation("The likeliest labels of one picture.", answer, content, refusals=_OF_ONE_PICTURE)
    similar = {
        "name": "similar",
        "in": "query",
        "description": "How many of the most similar works to answer with, as /similar does; 0 for none.",
        "schema": {"type": "integer", "minimum": 0, "maximum": MOST_WORKS, "default": 0},
    }
    return {
        "/classify": {
            "post": {**classify, "parameters": [top, _COVERAGE, _EXPLAIN, *([similar] if has_works else [])]}
        },
        **({"/correct": {"post": _correct(content)}} if has_corrections else {}),
        **({"/similar": {"post": _similar(content)}} if has_works else {}),
        "/": {"get": _operation("The page for people.", None, media="text/html")},
        "/metrics": {"get": _operation("Prometheus metrics.", None, media="text/plain")},
        "/openapi.json": {"get": _operation("This document.", {"type": "object"})},
    }


def _correct(content: Schema) -> Schema:
    label = {
        "name": "label",
        "in": "query",
        "required": True,
        "description": "The class that the picture should have had.",
        "schema": {"type": "string"},
    }
    found = _operation(
        "Saves one picture with another class, for a person to look at.",
        _object(saved={"type": "string"}),
        content,
        refusals=(*_OF_ONE_PICTURE, 429),
    )
    found["responses"]["202"] = found["responses"].pop("200")
    return {**found, "parameters": [label]}


def _similar(content: Schema) -> Schema:
    top = {
        "name": "top",
        "in": "query",
        "description": "How many works to answer with.",
        "schema": {"type": "integer", "minimum": 0, "maximum": MOST_WORKS, "default": 5},
    }
    answer = _object(model={"type": "string"}, version={"type": "string"}, works=_WORKS)
    summary = "The works of the model's collection that are most like one picture."
    return {**_operation(summary, answer, content, refusals=_OF_ONE_PICTURE), "parameters": [top]}


def _v1_paths(model: str) -> Schema:
    pictures = {
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_PICTURES,
        "items": {"type": "object", "properties": {"b64": _BASE64}, "required": ["b64"], "additionalProperties": False},
    }
    request = {"oneOf": [_request(instances=pictures), _request(inputs=pictures)]}
    histogram = _object(
        version={"type": "string"},
        since={"type": ["number", "null"]},
        predictions={"type": "object", "additionalProperties": {"type": "integer"}},
        confidence={"type": "array", "items": {"type": "integer"}},
        window={"type": "integer"},
    )
    state = _object(name={"type": "string"}, ready={"type": "boolean"}, model_version_status={"type": "array"})
    status = {"get": _operation("Whether the model is ready (TensorFlow Serving, KServe V1).", state)}
    body = {"application/json": {"schema": request, "example": {"instances": [{"b64": _example_picture()}]}}}
    answered = _operation("Probabilities of pictures (TensorFlow Serving, KServe V1).", {"type": "object"}, body)
    predict = {"post": {**answered, "parameters": [_COVERAGE]}}
    names = _object(models={"type": "array", "items": {"type": "string"}})
    return {
        "/v1/models": {"get": _operation("The names of the models.", names)},
        model: status,
        f"{model}/versions/1": status,
        f"{model}/metadata": {"get": _operation("The signature and the model card.", {"type": "object"})},
        f"{model}/histogram": {
            "get": _operation("The newest predictions of this server (one pod), counted.", histogram)
        },
        f"{model}:predict": predict,
        f"{model}/versions/1:predict": predict,
    }


def _v2_paths(model: str) -> Schema:
    tensor = {
        "type": "object",
        "properties": {
            "name": {"const": "images"},
            "datatype": {"const": "BYTES"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 2},
            "data": {"type": "array", "items": _BASE64, "minItems": 1, "maxItems": MAX_PICTURES},
            "parameters": {"type": "object"},
        },
        "required": ["name", "datatype", "shape"],
    }
    request = _request(inputs={"type": "array", "items": tensor, "minItems": 1, "maxItems": 1})
    request["properties"]["id"] = {"type": "string"}
    outputs = {"type": "array", "items": {"type": "object"}}
    answer = _object(model_name={"type": "string"}, model_version={"type": "string"}, outputs=outputs)
    example = {"name": "images", "datatype": "BYTES", "shape": [1], "data": [_example_picture()]}
    body = {
        "application/json": {"schema": request, "example": {"inputs": [example]}},
        "application/octet-stream": {"schema": {"type": "string"}},
    }
    infer = {"post": _operation("Probabilities of pictures (Open Inference Protocol).", answer, body)}
    metadata = {"get": _operation("The model's metadata.", {"type": "object"})}
    ready = {"get": _operation("Whether the model is ready.", {"type": "object"})}
    paths = {"/v2": {"get": _operation("The server's metadata.", {"type": "object"})}}
    for probe in ("live", "ready"):
        paths[f"/v2/health/{probe}"] = {"get": _operation(f"Whether the server is {probe}.", {"type": "object"})}
    for prefix in (model, f"{model}/versions/1"):
        paths |= {prefix: metadata, f"{prefix}/ready": ready, f"{prefix}/infer": infer}
    return paths


def _example_picture() -> str:
    """An image that can be sent as it stands: so the examples in the document are requests that work."""
    return base64.b64encode(imaging.encode_jpeg(np.full((16, 16, 3), 128, np.uint8), 50)).decode()


def _operation(
    summary: str,
    answer: Schema | None,
    content: Schema | None = None,
    media: str = "application/json",
    refusals: tuple[int, ...] = (400, 408, 413, 415, 422, 503),
) -> Schema:
    schema = {"type": "string"} if answer is None else answer
    responses = {"200": {"description": "OK", "content": {media: {"schema": schema}}}}
    if content is None:
        return {"summary": summary, "responses": responses}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    responses |= {
        str(status): {"description": _REFUSALS.get(status, "Refused."), "content": error} for status in refusals
    }
    return {"summary": summary, "requestBody": {"required": True, "content": content}, "responses": responses}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


_TEXTS = ("object_id", "label", "title", "artist", "credit_line", "link", "thumbnail")
_WORKS = {
    "type": "array",
    "description": "Nearest first; thumbnail is a data URL, link the museum's own page; either may be empty.",
    "items": _object(similarity={"type": "number"}, **{name: {"type": "string"} for name in _TEXTS}),
}


def _request(**required: Schema) -> Schema:
    return {"type": "object", "properties": dict(required), "required": list(required)}
