"""Starts the server: python -m components.server --model DIR_OR_URI --port 8080"""

import argparse
import os
import sys

from components.artifacts import signature
from components.server.choice import CHOICES
from components.server.settings import MEGABYTE, ServerSettings
from components.shared.errors import PipelineError


def main(arguments: list[str] | None = None) -> None:
    """Parses the command line and serves until it is told to stop."""
    # Before NumPy is loaded: workers share the cores, and a product over all works is no faster in more threads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from components.server.server import run

    options = vars(_parser().parse_args(arguments))
    options["max_upload"] = int(options.pop("max_upload_mb") * MEGABYTE)
    try:
        options["public_key"] = _public_key(options["public_key"])
        run(ServerSettings(**options))
    except PipelineError as error:
        sys.exit(f"error: {error}")


def _public_key(path: str) -> str:
    """The key in PEM: of the file, or of the environment. Raises PipelineError."""
    if not path:
        return os.environ.get(signature.PUBLIC_KEY, "")
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError as error:
        raise PipelineError(f"--public-key {path}: {error.strerror}") from error


def _parser() -> argparse.ArgumentParser:
    default = ServerSettings(model="")
    parser = argparse.ArgumentParser(prog="python -m components.server", description="Serves a trained classifier.")
    add = parser.add_argument
    add("--model", required=True, help="folder or URI of the classifier: what the training step wrote")
    add("--name", default=default.name, help="name of the model in the V1 and V2 protocols (%(default)s)")
    add(
        "--engine",
        default=default.engine,
        choices=CHOICES,
        help="what runs the model (%(default)s): auto takes OpenVINO where it is installed, faster, and "
        "answers as LiteRT does; savedmodel needs TensorFlow",
    )
    add("--host", default=default.host, help="address to listen at (%(default)s)")
    add("--port", default=default.port, type=int, help="%(default)s")
    add("--workers", default=0, type=int, help="processes, each with one engine; 0 for one per core")
    add("--queue", default=default.queue, type=int, help="waiting requests per worker before 503 (%(default)s)")
    add("--sha256", default="", help="refuse a model with another digest")
    add("--public-key", default="", metavar="FILE",
        help=f"PEM; refuse a model that its owner did not sign (default: that of {signature.PUBLIC_KEY})")  # fmt: skip
    add("--test-accuracy", default=None, type=float, help="what the evaluation found, 0 to 1: shown on the page")
    add("--coverage", default=default.coverage, type=float, help="of the labels that the page names (%(default)s)")
    add("--max-upload-mb", default=default.max_upload / MEGABYTE, type=float, help="largest request (%(default)g)")
    add(
        "--read-seconds",
        default=default.read_seconds,
        type=float,
        help="for a client to send its request (%(default)g)",
    )
    add("--corrections", default="", help="folder or URI to save visitors' corrections in (off)")
    add("--no-urls", dest="allow_urls", action="store_false", help="do not fetch pictures by URL")
    add("--allow-private-urls", action="store_true", help="also from private networks")
    return parser


if __name__ == "__main__":
    main()
