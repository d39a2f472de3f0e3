"""Questions to a museum's web API: kept connections, retries with backoff, a limit on the rate."""

import json
import threading
import time
from urllib.parse import urlencode

import urllib3

from components.query.settings import QueryError
from components.shared.errors import TransientError

TRIES = 6
BACKOFF_SECONDS = 0.5
TIMEOUT_SECONDS = 30
# A busy or ailing server is asked again, and no sooner than its Retry-After says.
PASSING = (408, 425, 429, 500, 502, 503, 504)


class Api:
    """GET requests to one API, from any number of threads.

    Args:
        base: Address before the path.
        name: What the error messages call it.
        requests_per_second: At most so many, over all threads.
        connections: Kept open at most.
    """

    def __init__(self, base: str, name: str, requests_per_second: float, connections: int = 1) -> None:
        self.base, self.name = base.rstrip("/"), name
        self._interval = 1 / requests_per_second
        self._next = 0.0
        self._lock = threading.Lock()
        retries = urllib3.Retry(
            total=TRIES - 1,
            backoff_factor=BACKOFF_SECONDS,
            backoff_jitter=BACKOFF_SECONDS,
            status_forcelist=PASSING,
            redirect=3,
            raise_on_status=False,
        )
        self._pool = urllib3.PoolManager(
            maxsize=connections, retries=retries, timeout=TIMEOUT_SECONDS, headers={"User-Agent": "museum-classifier"}
        )

    def get(self, path: str, **parameters: object) -> dict | None:
        """The JSON object at `path`; None if there is none (404).

        Raises:
            QueryError: the API refuses, or answers something else than JSON.
            TransientError: it does not answer, or is still busy after the last try.
        """
        self._wait()
        query = f"?{urlencode(parameters)}" if parameters else ""
        try:
            response = self._pool.request("GET", f"{self.base}{path}{query}")
        except urllib3.exceptions.HTTPError as error:
            reason = getattr(error, "reason", None) or error
            raise TransientError(f"{self.name} at {self.base} does not answer: {reason}; try again later") from error
        if response.status == 404:
            return None
        if response.status in PASSING:
            raise TransientError(f"{self.name} answers {response.status} after {TRIES} tries; try again later")
        return self._object(response, path)

    def _object(self, response: urllib3.BaseHTTPResponse, path: str) -> dict:
        if response.status != 200:
            raise QueryError(f"{self.name} refuses {self.base}{path}: it answers {response.status} {response.reason}")
        try:
            found = json.loads(response.data)
        except ValueError as error:
            raise QueryError(f"{self.name} does not answer in JSON at {self.base}{path}: is this its API?") from error
        if not isinstance(found, dict):
            raise QueryError(
                f"{self.name} answers something else than an object at {self.base}{path}: is this its API?"
            )
        return found

    def _wait(self) -> None:
        """Takes the next free moment, in the order of asking."""
        with self._lock:
            moment = max(self._next, time.monotonic())
            self._next = moment + self._interval
        time.sleep(max(0.0, moment - time.monotonic()))
