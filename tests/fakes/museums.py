"""Flickr's REST API and The Met's collection API on loopback, with the faults that the real ones have."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

# An answer: status, headers, and a JSON value or text.
Answer = tuple[int, dict[str, str], object]


class WebApi:
    """Keeps what was asked; `faults` maps a path with its query to answers that come before the right one.

    Attributes:
        requests: (path, parameters, headers), in the order of arrival.
        moments: When each of them arrived, by time.monotonic.
        connections: TCP connections that were opened.
        knows_head: Whether HEAD requests are answered; some servers refuse them.
    """

    def __init__(self, respond: Callable[[str, dict[str, str]], Answer]) -> None:
        self.respond = respond
        self.requests: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.moments: list[float] = []
        self.faults: dict[str, list[Answer]] = {}
        self.connections = 0
        self.knows_head = True
        self.lock = threading.Lock()

    def answer(self, path: str, parameters: dict[str, str], headers: dict[str, str]) -> Answer:
        """The next planned fault of this path, else the right answer."""
        with self.lock:
            self.requests.append((path, parameters, headers))
            self.moments.append(time.monotonic())
            planned = self.faults.get(path)
            return planned.pop(0) if planned else self.respond(path, parameters)


class FlickrPhotos:
    """flickr.photos.search over `photos`: keyword -> photos in the order of relevance."""

    def __init__(self, photos: dict[str, list[dict]], key: str = "good-key") -> None:
        self.photos, self.key = photos, key

    def __call__(self, path: str, parameters: dict[str, str]) -> Answer:
        """A page, in Flickr's JSON; errors have status 200 and stat=fail."""
        if parameters.get("api_key") != self.key:
            return 200, {}, {"stat": "fail", "code": 100, "message": "Invalid API Key (Key not found)"}
        if parameters.get("method") != "flickr.photos.search" or parameters.get("format") != "json":
            return 200, {}, {"stat": "fail", "code": 112, "message": "Method not found"}
        licenses = parameters["license"].split(",")
        found = [photo for photo in self.photos.get(parameters["text"], []) if photo["license"] in licenses]
        size, page = int(parameters["per_page"]), int(parameters["page"])
        pages = -(-len(found) // size)
        # Beyond what it gives out, Flickr repeats itself.
        start = min(page - 1, 4000 // size - 1) * size
        shown = found[start : start + size]
        photos = {"page": page, "pages": pages, "perpage": size, "total": len(found), "photo": shown}
        return 200, {}, {"photos": photos, "stat": "ok"}


def met_objects(objects: dict[int, str | list[str]]) -> Callable[[str, dict[str, str]], Answer]:
    """/public/collection/v1/objects/<id> over {id: address of its picture, or of several}; others are unknown."""

    def respond(path: str, parameters: dict[str, str]) -> Answer:
        head, _, number = path.rpartition("/")
        if head != "/public/collection/v1/objects" or not number.isdigit():
            return 404, {}, {"message": "Not Found"}
        if int(number) not in objects:
            return 404, {}, {"message": "ObjectID not found"}
        found = objects[int(number)]
        main, *further = [found] if isinstance(found, str) else found
        return 200, {}, {"objectID": int(number), "primaryImage": main, "additionalImages": further}

    return respond


def photo(number: int, **changes: object) -> dict:
    """A photo as Flickr describes it."""
    return {
        "id": str(number),
        "owner": f"{number % 7}@N00",
        "ownername": f"Owner {number % 7}",
        "title": f"Photo {number}",
        "license": "4",
        "datetaken": "2020-01-01 12:00:00",
        "tags": "a b",
        "url_z": f"https://live.flickr.test/{number}_z.jpg",
        "url_c": f"https://live.flickr.test/{number}_c.jpg",
    } | changes


@contextlib.contextmanager
def serve(respond: Callable[[str, dict[str, str]], Answer]) -> Iterator[tuple[WebApi, str]]:
    """Serves on loopback; gives the API and its address."""
    api = WebApi(respond)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            with api.lock:
                api.connections += 1

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            parameters = {name: values[0] for name, values in parse_qs(address.query).items()}
            status, headers, content = api.answer(address.path, parameters, dict(self.headers))
            data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def do_HEAD(self) -> None:
            if api.knows_head:
                self.do_GET()
            else:
                self.send_error(501)

        def log_message(self, *arguments: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield api, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
