"""Whether a store takes the keys of a Secret: one signed request that lists nothing, as steps and launcher would."""

import base64
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlsplit

from cli.diagnosis import Finding, Patient
from components.shared.errors import PipelineError

SECONDS = 5
_REFUSALS = {
    "InvalidAccessKeyId": "{store} does not know the access key of the Secret {secret}: correct {keys}",
    "SignatureDoesNotMatch": "{store} refuses the secret key of the Secret {secret}: correct {keys}",
    "AccessDenied": "the keys of the Secret {secret} may not list {bucket} at {store}: permit it, or correct {keys}",
    "NoSuchBucket": "there is no bucket {bucket} at {store}: create it, or give another --root",
}


@dataclass(frozen=True)
class Place:
    """Where a root is: `base` is the URL, or the API server's path, below which buckets are; `store` is for people."""

    root: str
    store: str
    base: str
    region: str


@dataclass(frozen=True)
class Keys:
    """A Secret, and which of its entries are the access key and the secret key."""

    secret: str
    names: tuple[str, str]


def refusals(patient: Patient, place: Place, keys: Keys) -> Iterator[Finding]:
    """What the store says against the keys; nothing if it takes them, or if there are none."""
    data = (patient.own(f"secrets/{keys.secret}") or {}).get("data") or {}
    pair = [base64.b64decode(data.get(name) or "").decode(errors="replace") for name in keys.names]
    if not all(pair):
        return
    try:
        answer = _ask(patient, place, *pair)
    except ModuleNotFoundError:
        yield Finding("unknown", "Store", f"the keys of {keys.secret} were not tried: pip install botocore")
        return
    for code, words in _REFUSALS.items():
        if f"<Code>{code}</Code>" in answer:
            bucket, names = place.root.partition("://")[2].partition("/")[0], " and ".join(keys.names)
            words = words.format(store=place.store, secret=keys.secret, bucket=bucket, keys=names)
            yield Finding("mend", "Store", f"{place.root}: {words}")
            return
    if "<ListBucketResult" not in answer:
        words = " ".join(answer.split())[:200]
        yield Finding("unknown", "Store", f"the keys of {keys.secret} could not be tried at {place.store}: {words}")


def _ask(patient: Patient, place: Place, access_key: str, secret_key: str) -> str:
    """What the store answers to a list of no object, or why it could not be asked."""
    inside = place.base.startswith("/")
    server = patient.cluster.api.configuration.host if inside else place.base
    url = _signed(server, place, access_key, secret_key)
    if not inside:
        try:
            with urllib.request.urlopen(url, timeout=SECONDS) as answer:
                return answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            return error.read().decode(errors="replace")
        except OSError as error:
            return str(getattr(error, "reason", error))
    # The API server hands path, query and Host on as they are, and those are what is signed.
    parts = urlsplit(url)
    try:
        return str(patient.cluster.look(f"{place.base}{parts.path}", **dict(parse_qsl(parts.query))))
    except PipelineError as error:
        return str(error)


def _signed(server: str, place: Place, access_key: str, secret_key: str) -> str:
    from botocore.auth import S3SigV4QueryAuth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    bucket, _, prefix = place.root.partition("://")[2].partition("/")
    query = f"list-type=2&max-keys=0&prefix={quote(prefix, safe='')}"
    request = AWSRequest("GET", f"{server}/{bucket}?{query}")
    S3SigV4QueryAuth(Credentials(access_key, secret_key), "s3", place.region, expires=300).add_auth(request)
    return request.url
