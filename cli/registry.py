"""Whether a registry has an image, asked as a node's container runtime asks, without pulling anything.

https://distribution.github.io/distribution/spec/api/ and /auth/token/
"""

import base64
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

SECONDS = 10
_KINDS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


def problem(reference: str, logins: Mapping[str, Any]) -> str:
    """Why the image cannot be pulled from here; empty if it can.

    Args:
        reference: such as `ghcr.io/you/museum-classifier-data:0.1.0`, or with a digest.
        logins: `auths` of a pull Secret's .dockerconfigjson: registry -> {auth} or {username, password}.

    Raises:
        OSError: the registry does not answer here, which says nothing of the cluster's nodes.
    """
    host, repository, version = parts(reference)
    scheme = "http" if re.fullmatch(r"(localhost|127\.0\.0\.1)(:\d+)?", host) else "https"
    url = f"{scheme}://{host}/v2/{repository}/manifests/{version}"
    headers = {"Accept": ", ".join(_KINDS)}
    login = _login(host, logins)
    try:
        try:
            _ask(url, headers | ({"Authorization": f"Basic {login}"} if login else {}))
        except urllib.error.HTTPError as error:
            challenge = error.headers.get("WWW-Authenticate") or ""
            if error.code != 401 or not challenge.lower().startswith("bearer"):
                raise
            _ask(url, headers | {"Authorization": f"Bearer {_token(challenge, login)}"})
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return "the registry does not have it: make images push, and give --digests images.json or --tag"
        if error.code in (401, 403):
            return f"the registry wants {'another' if login else 'a'} login: give --image-pull-secret NAME"
        raise
    return ""


def parts(reference: str) -> tuple[str, str, str]:
    """(registry, repository, tag or digest), with what containers leave out filled in as they do."""
    name, _, digest = reference.partition("@")
    head, _, rest = name.partition("/")
    has_host = bool(rest) and ("." in head or ":" in head or head == "localhost")
    host, path = (head, rest) if has_host else ("registry-1.docker.io", name if rest else f"library/{name}")
    path, _, tag = path.partition(":")
    return host, path, digest or tag or "latest"


def _ask(url: str, headers: Mapping[str, str]) -> None:
    request = urllib.request.Request(url, headers=dict(headers), method="HEAD")
    urllib.request.urlopen(request, timeout=SECONDS).close()


def _token(challenge: str, login: str) -> str:
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    query = urllib.parse.urlencode({name: fields[name] for name in ("service", "scope") if name in fields})
    headers = {"Authorization": f"Basic {login}"} if login else {}
    request = urllib.request.Request(f"{fields.get('realm', '')}?{query}", headers=headers)
    with urllib.request.urlopen(request, timeout=SECONDS) as response:
        answer = json.load(response)
    return answer.get("token") or answer.get("access_token", "")


def _login(host: str, logins: Mapping[str, Any]) -> str:
    """Base64 of USER:PASSWORD for the registry; empty if there is none."""
    known = {re.sub(r"^https?://|/.*$", "", name): entry for name, entry in logins.items()}
    entry = known.get(host) or (known.get("index.docker.io") if host == "registry-1.docker.io" else None) or {}
    if entry.get("auth"):
        return entry["auth"]
    pair = f"{entry.get('username', '')}:{entry.get('password', '')}"
    return base64.b64encode(pair.encode()).decode() if entry else ""
