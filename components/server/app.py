"""The ASGI application: the page, POST /classify, the protocols, probes and metrics."""

import functools
import io
import json
from urllib.parse import urljoin

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from components.artifacts.works import Works
from components.server import openapi, v1, v2
from components.server.asked import Asked, Service, http_error, route
from components.server.corrections import correct
from components.server.engine import Engine
from components.server.errors import RequestError
from components.server.explain import explanation, is_asked
from components.server.monitor import Monitor
from components.server.page import STATIC, render
from components.server.settings import ServerSettings
from components.server.similar import near, similar, wanted
from components.server.upload import read_picture

# Only images may come from elsewhere (the preview of a URL that a person gave); scripts and styles never.
PAGE_POLICY = (
    "default-src 'self'; img-src 'self' blob: data: http: https:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
# What a phone's camera reads off a screen.
MAX_ADDRESS = 300
_CODE_HEADERS = {
    "Content-Type": "image/svg+xml",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
}


def create(settings: ServerSettings, engine: Engine, monitor: Monitor, works: Works | None = None) -> Starlette:
    """The application of one worker process; `works` are those that are looked at for similar ones."""
    routes = [
        route("/", page, counted=False),
        route("/classify", classify, "POST"),
        route("/similar", similar, "POST"),
        route("/address.svg", address, counted=False),
        route("/openapi.json", description, counted=False),
        route("/metrics", metrics, counted=False),
        Mount("/static", StaticFiles(directory=STATIC), name="static"),
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
    served = {
        "address": f"http://{asked.headers.get('host', '')}/",
        "allow_urls": settings.allow_urls,
        "corrections": bool(settings.corrections),
        "works": len(asked.service.works or ()),
        "coverage": settings.coverage if classifier.uncertainty else None,
    }
    text = render(classifier, settings.name, settings.test_accuracy, classifier.engine, served=served)
    return HTMLResponse(text, headers={"Content-Security-Policy": PAGE_POLICY})


async def address(asked: Asked) -> Response:
    """A QR code of the address of the page that shows it, as its browser says: an ingress may have given it another."""
    page = urljoin(asked.headers.get("referer", ""), ".")
    if not page.startswith(("http://", "https://")) or len(page) > MAX_ADDRESS:
        raise RequestError(404, "this is the QR code of the page that shows it: open that", "not_found")
    return Response(await asked.aside(_code, page), headers=_CODE_HEADERS)


def _code(text: str) -> bytes:
    import segno

    content = io.BytesIO()
    segno.make(text, micro=False).save(content, kind="svg", scale=4, light="white", xmldecl=False)
    return content.getvalue()


async def classify(asked: Asked) -> Response:
    """The likeliest labels of one image: a file, raw bytes or `{"url": ...}`; with `coverage` one label or none."""
    top, count = _top(asked.query_params.get("top", "5")), wanted(asked, "similar", "0")
    coverage, explains = asked.coverage, is_asked(asked)
    engine = asked.engine
    async with asked.received() as body:
        image = await read_picture(asked, body)
        rows, features = await asked.look([image])
        explained = {"explanation": await explanation(asked, image, int(rows[0].argmax()))} if explains else {}
    predictions = [vars(prediction) for prediction in engine.best(rows[0], top)]
    decided = {} if coverage is None else engine.decide(rows, features, coverage)[0].fields()
    version = engine.classifier.digest[:12]
    answer = {"model": asked.settings.name, "version": version, "predictions": predictions, **decided, **explained}
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


def _top(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and int(text) >= 1):
        raise RequestError(400, f"top={text[:20]} is not possible: give a whole number from 1", "bad_request")
    return int(text)
