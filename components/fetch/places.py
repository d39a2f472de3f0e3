"""Where images may be read besides the public web: a table from somewhere else must not reach the user's own files.

What the user typed is the user's: files where the table, its table of images or image_base is a file or folder of
this machine, and the buckets that they name. `allow_private_addresses` lifts it.
"""

from collections.abc import Iterable

from yarl import URL

from components.fetch.failure import Failure
from components.fetch.settings import ShardSettings
from components.shared.storage import storage
from components.shared.templates import PLACE

# The Met's own images, to which its BigQuery table leads.
PUBLIC_BUCKETS = frozenset({("gs", "gcs-public-data--met")})
_STORES = ("gs", "s3", "minio")


def check_place(address: str, settings: ShardSettings) -> None:
    """Raises Failure(private_address) if `address`, a path or a URI, is a file or bucket that the user did not name."""
    scheme, place = place_of(address)
    if settings.allow_private_addresses or scheme not in ("file", *_STORES):
        return
    if (scheme, place) in PUBLIC_BUCKETS or (scheme, place) in map(place_of, _typed(settings)):
        return
    if scheme == "file":
        why = "is a file, and neither table nor image_base is on this machine: "
    else:
        why = f"is in a bucket that neither table nor image_base names: image_base={scheme}://{place} or "
    raise Failure("private_address", f"{address[:200]} {why}allow_private_addresses=true lets it pass")


def named_hosts(settings: ShardSettings) -> frozenset[tuple[str, int]]:
    """Host and port of what the user typed: these may be private."""
    return hosts_of(_typed(settings))


def hosts_of(addresses: Iterable[str]) -> frozenset[tuple[str, int]]:
    """Host and port of those addresses that are http or https."""
    urls = [URL(text) for text in addresses if text.lower().startswith(("http://", "https://"))]
    return frozenset((url.host.lower(), url.port) for url in urls if url.host and url.port)


def _typed(settings: ShardSettings) -> list[str]:
    # A template that begins with {} names no place.
    return [text for text in (settings.image_base, *settings.named) if text and not text.startswith(PLACE)]


def place_of(address: str) -> tuple[str, str]:
    """(file, "") of a path or file URI, else scheme and bucket (or host)."""
    if storage.local_path(address) is not None:
        return "file", ""
    scheme, _, rest = address.partition("://")
    return scheme.lower(), rest.partition("/")[0]
