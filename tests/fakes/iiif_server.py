"""A IIIF image service (Image API 2 and 3) on loopback that takes some forms of a size and refuses the others."""

import contextlib
import functools
import io
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import numpy as np
from PIL import Image

# Of every image, in pixels.
WIDTH, HEIGHT = 1200, 900
FORMS = {"w,": r"\d+,", ",h": r",\d+", "!w,h": r"!\d+,\d+", "w,h": r"\d+,\d+"}


class ImageService:
    """Serves /iiif/<identifier>/..., one picture per identifier.

    Attributes:
        forms: Forms of a size that are taken, such as `!w,h`; others get 400.
        widest: Wider ones get 403; 0 for no limit.
        listed: (width, height) pairs that are taken whatever `forms` says.
        info: What info.json says beside width and height; None: there is none.
        asked: Paths, in order.
    """

    def __init__(self, forms=tuple(FORMS), widest=0, listed=(), info=None, status=400) -> None:
        self.forms, self.widest, self.listed, self.info, self.status = forms, widest, listed, info, status
        self.asked: list[str] = []

    def answer(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        self.asked.append(path)
        if match := re.fullmatch(r"/iiif/([^/]+)/info\.json", path):
            return (
                (200, json.dumps({"width": WIDTH, "height": HEIGHT} | self.info).encode()) if self.info else (404, b"")
            )
        match = re.fullmatch(r"/iiif/([^/]+)/full/([^/]+)/0/default\.jpg", path)
        if not match:
            return 404, b""
        size = self._size(match[2])
        return (200, picture(unquote(match[1]), *size)) if isinstance(size, tuple) else (size, b"not so")

    def sizes(self) -> list[str]:
        """What was asked for, in order; `info` for a description."""
        return [path.split("/")[-3] if path.endswith(".jpg") else "info" for path in self.asked if "/iiif/" in path]

    def _size(self, text: str) -> tuple[int, int] | int:
        if text in [f"{w},{h}" for w, h in self.listed]:
            return tuple(map(int, text.split(",")))
        if not any(re.fullmatch(FORMS[form], text) for form in self.forms):
            return self.status
        width, height = (int(number) if number else 0 for number in text.lstrip("!").split(","))
        scale = min(width / WIDTH if width else 9, height / HEIGHT if height else 9)
        size = round(WIDTH * scale), round(HEIGHT * scale)
        return 403 if self.widest and max(width, size[0]) > self.widest else size


@functools.cache
def picture(identifier: str, width: int, height: int) -> bytes:
    """A JPEG of soft noise that differs with the identifier."""
    noise = np.random.default_rng(list(identifier.encode())).integers(0, 255, (6, 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


@contextlib.contextmanager
def serve_images(service: ImageService) -> Iterator[str]:
    """The address of `service` on loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, body = service.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
