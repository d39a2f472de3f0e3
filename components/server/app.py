"""The ASGI application: the page, POST /classify, the protocols, probes and metrics."""

import functools
import json
from pathlib import Path

import jinja2
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from components.artifacts.classifier import Classifier
from components.artifacts.works import Works
from components.server import openapi, v1, v2
from components.server.asked import Asked, Service, http_error, route
from components.server.corrections import correct
from components.server.engine import Engine
from components.server.errors import RequestError
from components.server.monitor import Monitor
from components.server.settings import ServerSettings
from components.server.similar import near, similar, wanted
from components.server.upload import read_picture

FOLDER = Path(__file__).parent
# Only images may come from elsewhere (the preview of a URL that a person gave); scripts and styles never.
PAGE_POLICY = (
    "default-src 'self'; img-src 'self' blob: data: http: https:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_templates = jinja2.Environment(loader=jinja2.FileSystemLoader(FOLDER / "templates"), autoescape=True)


def create(settings: ServerSettings, engine: Engine, monitor: Monitor, works: Works | None = None) -> Starlette:
    """The application of one worker process; `works` are those that are looked at for similar ones."""
    routes = [
        route("/", page, counted=False),
        route("/classify", classify, "POST"),
        route("/similar", similar, "POST"),
        route("/openapi.json", description, counted=False),
        route("/metrics", metrics, counted=False),
        Mount("/static", StaticFiles(directory=FOLDER / "static"), name="static"),
        *([route("/correct", correct, "POST")] if settings.corrections else []),
        *v1.routes,
        *v2.routes,
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: http_error})
    app.router.redirect_slashes = False
    app.state.service = Service(settings, engine, monitor, works)
    return app


async def page(asked: Asked) -> Response:
    """The page for people."""
    classifier, settings = asked.engine.classifier, asked.settings
    text = _templates.get_template("page.html").render(
        settings=settings,
        labels=classifier.labels,
        card=classifier.card,
        facts=_facts(classifier, settings.test_accuracy),
        origin=_origin(classifier),
        works=len(asked.service.works or ()),
        address=f"http://{asked.headers.get('host', '')}",
        coverage=settings.coverage if classifier.uncertainty else None,
    )
    return HTMLResponse(text, headers={"Content-Security-Policy": PAGE_POLICY})


async def classify(asked: Asked) -> Response:
    """The likeliest labels of one image: a file, raw bytes or `{"url": ...}`; with `coverage` one label or none."""
    top, count = _top(asked.query_params.get("top", "5")), wanted(asked, "similar", "0")
    coverage = asked.coverage
    async with asked.received() as body:
        rows, features = await asked.look([await read_picture(asked, body)])
    engine = asked.engine
    predictions = [vars(prediction) for prediction in engine.best(rows[0], top)]
    decided = {} if coverage is None else engine.decide(rows, features, coverage)[0].fields()
    version = engine.classifier.digest[:12]
    answer = {"model": asked.settings.name, "version": version, "predictions": predictions, **decided}
    return JSONResponse(answer | ({"works": await near(asked, features[0], count)} if count else {}))


async def description(asked: Asked) -> Response:
    """The OpenAPI document."""
    content = _description(asked.settings, tuple(asked.engine.classifier.labels), bool(asked.service.works))
    return Response(content, media_type="application/json")


@functools.cache
def _description(settings: ServerSettings, labels: tuple[str, ...], has_works: bool) -> bytes:
    return json.dumps(openapi.document(settings, list(labels), has_works), ensure_ascii=False).encode()


async def metrics(asked: Asked) -> Response:
    """Prometheus metrics."""
    text = await asked.aside(asked.service.monitor.exposition)
    return Response(text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


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
        "engine": classifier.engine,
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
