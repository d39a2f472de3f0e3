"""What a server can be told, with its defaults."""

import re
from dataclasses import dataclass

from components.artifacts.uncertainty import COVERAGE
from components.shared.errors import PipelineError

MEGABYTE = 1_000_000
# In one request of the protocols.
MAX_PICTURES = 256
# In one answer.
MOST_WORKS = 100


@dataclass(frozen=True)
class ServerSettings:
    """One server; sizes in bytes, times in seconds.

    Attributes:
        model: folder or URI of the classifier.
        name: name of the model in the V1 and V2 protocols.
        engine: what runs the model: see components.server.choice.
        workers: processes, each with one single-threaded engine; 0 for one per core.
        queue: requests that may wait or run in one worker; further ones are answered 503.
        sha256: digest that the model must have (components.artifacts.classifier.digest); empty for any.
        public_key: of whoever must have signed the model, PEM; empty for nobody (components.artifacts.signature).
        test_accuracy: share of the test images that the model had right, for the page; None if it is not known. The
            model's card cannot say it: it is written before the evaluation.
        coverage: how often the set of labels on the page holds the truth.
        read_seconds: how long a client may take to send its request.
        answer_seconds: how long an answer may take, from the first byte of the request on; then it is 503.
        grace_seconds: how long the server finishes what it has accepted when it is told to stop: longer than that.
        corrections: folder or URI where POST /correct saves what visitors say is wrong; empty: there is no such route.
        allow_urls: whether POST /classify fetches `{"url": ...}`.
        allow_private_urls: also from private networks; off, since anybody could read what only the server may.
    """

    model: str
    name: str = "museum-classifier"
    engine: str = "auto"
    host: str = "0.0.0.0"
    port: int = 8080
    workers: int = 0
    queue: int = 64
    sha256: str = ""
    public_key: str = ""
    test_accuracy: float | None = None
    coverage: float = COVERAGE
    max_upload: int = 10 * MEGABYTE
    read_seconds: float = 15.0
    answer_seconds: float = 20.0
    grace_seconds: float = 25.0
    corrections: str = ""
    allow_urls: bool = True
    allow_private_urls: bool = False

    def __post_init__(self) -> None:
        """Raises PipelineError: a value is not possible."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise PipelineError(f"--name {self.name!r} is not possible: give letters, digits, and . _ - between them")
        at_least = {"port": 1, "workers": 0, "queue": 1, "max_upload": 1, "read_seconds": 0.1}
        for name, least in at_least.items():
            if not getattr(self, name) >= least:
                option = f"--{name.replace('_', '-')}" + ("-mb" if name == "max_upload" else "")
                raise PipelineError(f"{option} {getattr(self, name):g} is not possible: give at least {least:g}")
        if self.test_accuracy is not None and not 0 <= self.test_accuracy <= 1:
            raise PipelineError(f"--test-accuracy {self.test_accuracy:g} is not possible: give a share, 0 to 1")
        if not 0 < self.coverage < 1:
            raise PipelineError(f"--coverage {self.coverage:g} is not possible: give a share between 0 and 1")
        if self.port > 65535:
            raise PipelineError(f"--port {self.port} is not possible: give at most 65535")
