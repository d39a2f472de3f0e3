"""The Flask application: the page, POST /classify, the protocols, probes and metrics."""

import logging
import time

import werkzeug
from flask import Blueprint, Response, g, jsonify, render_template, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from components.artifacts.classifier import Classifier
from components.artifacts.service import SMOKE_HEADER
from components.server import deadlines, openapi, v1, v2
from components.server.application import Application, current_app
from components.server.engine import Engine
from components.server.errors import RequestError
from components.server.monitor import Monitor
from components.server.settings import ServerSettings
from components.server.upload import announced_size, read_picture

plain = Blueprint("plain", __name__)
LOG = logging.getLogger(__name__)
# Only pictures may come from elsewhere (the preview of a URL that a person gave); scripts and styles never.
PAGE_POLICY = (
    "default-src 'self'; img-src 'self' blob: data: http: https:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


class ModelName(BaseConverter):
    """A model's name in a path: it ends at the colon, which belongs to the verb (`name:predict`)."""

    regex = "[^/:]+"


def create(settings: ServerSettings, engine: Engine, monitor: Monitor) -> Application:
    """The application of one worker process."""
    app = Application(settings, engine, monitor)
    app.url_map.converters["model"] = ModelName
    for blueprint in (plain, v1.blueprint, v2.blueprint):
        app.register_blueprint(blueprint)
    app.before_request(_start)
    app.after_request(_finish)
    app.register_error_handler(RequestError, _refused)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)
    return app


@plain.get("/")
def page() -> Response:
    """The page for people."""
    classifier = current_app.engine.classifier
    text = render_template(
        "page.html",
        settings=current_app.settings,
        labels=classifier.labels,
        card=classifier.card,
        facts=_facts(classifier, current_app.settings.test_accuracy),
        origin=_origin(classifier),
        address=request.host_url.rstrip("/"),
    )
    response = Response(text)
    response.headers["Content-Security-Policy"] = PAGE_POLICY
    return response


@plain.post("/classify")
def classify() -> Response:
    """The likeliest labels of one picture: a file, raw bytes or `{"url": ...}`."""
    top = _top(request.args.get("top", "5"))
    engine = current_app.engine
    with engine.admitted(announced_size(request)):
        picture = read_picture(request, current_app.settings, g.until)
        row = engine.predict([picture], g.until, g.counted)[0]
    predictions = [vars(prediction) for prediction in engine.best(row, top)]
    return jsonify(model=current_app.settings.name, version=engine.classifier.digest[:12], predictions=predictions)


@plain.get("/openapi.json")
def description() -> Response:
    """The OpenAPI document."""
    return jsonify(openapi.document(current_app.settings, current_app.engine.classifier.labels))


@plain.get("/metrics")
def metrics() -> Response:
    """Prometheus metrics."""
    return Response(current_app.monitor.exposition(), content_type="text/plain; version=0.0.4; charset=utf-8")


def _facts(classifier: Classifier, test_accuracy: float | None) -> list[tuple[str, str]]:
    """What the model card says, as the page shows it; what a card lacks is left out."""
    card = classifier.card
    data = card.get("data", {})
    examples, parameters = data.get("examples_train"), data.get("parameters", {})
    facts = [
        ("classes", f"{len(classifier.labels):,}"),
        *_accuracy(card, test_accuracy),
        ("label", str(parameters.get("label", ""))),
        ("source", " ".join(str(parameters.get(name, "")).rpartition("/")[2] for name in ("source", "table")).strip()),
        ("pictures learned from", f"{examples:,}" if examples else ""),
        ("date of training", str(card.get("created", ""))[:10]),
    ]
    return [(name, value) for name, value in facts if value]


def _origin(classifier: Classifier) -> str:
    """What tells this model from others, in one line for those who look after it."""
    card = classifier.card
    parts = {
        "Architecture": card.get("parameters", {}).get("model", ""),
        "data set": str(card.get("snapshot", ""))[:12],
        "version": classifier.digest[:12],
    }
    return " · ".join(f"{name} {value}" for name, value in parts.items() if value)


def _accuracy(card: dict, test_accuracy: float | None) -> list[tuple[str, str]]:
    """The accuracy on the test split, or else on the validation split, under a name that says which."""
    metrics = card.get("metrics", {})
    measured = {
        "test": metrics.get("test_accuracy") if test_accuracy is None else test_accuracy,
        "validation": metrics.get("validation_accuracy"),
    }
    for split, share in measured.items():
        if share is not None:
            pictures = card.get("data", {}).get(f"examples_{split}")
            number = f"{pictures:,} {split}" if pictures else split
            return [(f"accuracy, {number} pictures", f"{share * 100:.1f}\u00a0%")]
    return []


def _top(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and int(text) >= 1):
        raise RequestError(400, f"top={text[:20]} is not possible: give a whole number from 1", "bad_request")
    return int(text)


def _start() -> None:
    g.started = time.perf_counter()
    # One limit over reading, fetching, waiting and predicting, below the time that a stopping server has left.
    g.until = deadlines.started(request.environ) + current_app.settings.answer_seconds
    g.counted = SMOKE_HEADER not in request.headers


def _finish(response: Response) -> Response:
    response.headers["X-Content-Type-Options"] = "nosniff"
    if request.url_rule is not None and request.url_rule.rule.startswith(("/classify", "/v1", "/v2")):
        seconds = time.perf_counter() - g.started
        current_app.monitor.count_request(request.url_rule.rule, response.status_code, seconds)
    return response


def _refused(error: RequestError) -> tuple[Response, int, dict]:
    return jsonify(error.body()), error.status, error.headers()


def _http_error(error: HTTPException) -> werkzeug.Response:
    """Flask's own errors (404, 405, 413, ...) as JSON; their headers, such as Allow, stay."""
    response = error.get_response()
    response.data = current_app.json.dumps({"error": error.description, "reason": error.name.lower().replace(" ", "_")})
    response.content_type = "application/json"
    return response


def _unexpected(error: Exception) -> tuple[Response, int]:
    # The client learns nothing about the code; the log has the whole trace.
    LOG.exception("unexpected error in %s %s", request.method, request.path)
    return jsonify({"error": "the server made a mistake; its log says more", "reason": "internal"}), 500
