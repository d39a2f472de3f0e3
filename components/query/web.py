"""Questions to a museum's web API: kept connections, retries with backoff, one limit on the rate for all threads."""

import json
import logging
import random
import threading
import time
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from components.query.settings import QueryError
from components.shared.errors import TransientError

AGENT = "museum-classifier/1"
TRIES = 6
BACKOFF_SECONDS = 0.5
TIMEOUT_SECONDS = 30
# A server that asks for a longer pause than this is not waited for.
LONGEST_PAUSE_SECONDS = 900
# A busy or ailing server is asked again, and no sooner than its Retry-After says.
PASSING = (408, 425, 429, 500, 502, 503, 504)


class Api:
    """GET requests to one API, from any number of threads; through HTTP(S)_PROXY where that is set.

    Args:
        base: Address before the path.
        name: What the error messages call it.
        requests_per_second: At most so many, over all threads, repeated ones among them.
        contact: Address or page that the User-Agent names.
        connections: Kept open at most.
    """

    def __init__(
        self, base: str, name: str, requests_per_second: float, contact: str = "", connections: int = 1
    ) -> None:
        self.base, self.name = base.rstrip("/"), name
        self._interval = 1 / requests_per_second
        self._next = 0.0
        self._lock = threading.Lock()
        agent = f"{AGENT} (+{contact})" if contact else AGENT
        self._pool = _pool(self.base, maxsize=connections, timeout=TIMEOUT_SECONDS, headers={"User-Agent": agent})

    def get(self, path: str, **parameters: object) -> dict | None:
        """The JSON object at `path`; None if there is none (404).

        Raises:
            QueryError: the API refuses, or answers something else than JSON.
            TransientError: it does not answer, or is still busy after the last try.
        """
        response = self._request(path, parameters)
        return None if response is None else self._object(response, path)

    def read(self, path: str, **parameters: object) -> bytes:
        """What is at `path`, such as XML. Raises QueryError, also where there is nothing, or TransientError."""
        response = self._request(path, parameters)
        if response is None or response.status != 200:
            status = f"{response.status} {response.reason}" if response is not None else "404"
            raise QueryError(f"{self.name} refuses {self.base}{path}: it answers {status}")
        return response.data

    def _request(self, path: str, parameters: dict[str, object]) -> urllib3.BaseHTTPResponse | None:
        # Its warnings quote the address, and with it Flickr's key. Not once for all: Kubernetes' client, and KFP's, set
        # the level anew whenever they are configured.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        query = f"?{urlencode(parameters, doseq=True)}" if parameters else ""
        # Repeated here and not by urllib3: a repeated request waits for its turn as well.
        only_redirects = urllib3.Retry(connect=0, read=0, status=0, other=0, redirect=3, raise_on_status=False)
        fault = ""
        for attempt in range(TRIES):
            self._take_turn()
            try:
                response = self._pool.request("GET", f"{self.base}{path}{query}", retries=only_redirects)
            except urllib3.exceptions.HTTPError as error:
                fault = f"at {self.base} does not answer: {getattr(error, 'reason', None) or error}"
                time.sleep(_backoff(attempt))
                continue
            if response.status not in PASSING:
                return None if response.status == 404 else response
            fault = f"answers {response.status} after {attempt + 1} tries"
            self._wait(response, attempt)
        raise TransientError(f"{self.name} {fault}; try again later")

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

    def _take_turn(self) -> None:
        """Returns when a request may be sent: one interval after the last, whoever sent it, and after any pause."""
        while True:
            with self._lock:
                wait = self._next - time.monotonic()
                if wait <= 0:
                    self._next = time.monotonic() + self._interval
                    return
            time.sleep(wait)

    def _wait(self, response: urllib3.BaseHTTPResponse, attempt: int) -> None:
        """A 429 or a Retry-After is meant for all threads; any other fault may be that of the one object."""
        asked = response.headers.get("Retry-After")
        if response.status != 429 and asked is None:
            return time.sleep(_backoff(attempt))
        seconds = max(_seconds(asked), _backoff(attempt))
        if seconds > LONGEST_PAUSE_SECONDS:
            raise TransientError(f"{self.name} answers {response.status}: try again in {seconds / 60:.0f} minutes")
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)
        return None


def _backoff(attempt: int) -> float:
    """Seconds: doubled at each attempt, with jitter; none after the last."""
    return BACKOFF_SECONDS * (2**attempt + random.random()) if attempt < TRIES - 1 else 0.0


def _seconds(retry_after: str | None) -> float:
    try:
        return urllib3.Retry(retry_after_max=10**9).parse_retry_after(retry_after) if retry_after else 0.0
    except urllib3.exceptions.InvalidHeader:
        return 0.0


def _pool(base: str, **options: Any) -> urllib3.PoolManager:
    address = urlsplit(base)
    proxy = None if proxy_bypass(address.netloc) else getproxies().get(address.scheme)
    if not proxy:
        return urllib3.PoolManager(**options)
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    credentials = urlsplit(proxy).netloc.rpartition("@")[0]
    headers = urllib3.make_headers(proxy_basic_auth=credentials) if credentials else None
    return urllib3.ProxyManager(proxy, proxy_headers=headers, **options)
