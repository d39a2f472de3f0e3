"""Addresses of images: how they are read, and which network addresses a URL from a stranger may lead to.

The one way for the query, the fetch step, `pipeline.py predict` and the server: `absolute` and then, for what begins
with http or https, `http_url`. A host's name is resolved once and the connection goes to the addresses that were
checked: a name that answers otherwise the second time (DNS rebinding) gains nothing.
"""

import functools
import ipaddress
import posixpath
import re
import socket
from urllib.parse import urlsplit

import idna

from components.shared.storage import storage

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# IPv4 addresses inside IPv6 ones: NAT64 (RFC 6052) would lead to them, whatever the IPv6 address looks like.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Python counts 192.0.0.0/24 and 100.64.0.0/10 (carrier-grade NAT, pods of some clouds) differently by version.
# 168.63.129.16 looks public, but is what a machine of Azure asks about itself.
_EXTRA_PRIVATE = tuple(
    map(ipaddress.ip_network, ("100.64.0.0/10", "192.0.0.0/24", "64:ff9b:1::/48", "168.63.129.16/32"))
)


_WEB = ("http", "https")
SCHEMES = (*_WEB, "gs", "s3", "minio", "file", "sample")
# What tables leave around an address: blanks of all kinds, line ends, byte order marks, blanks of no width.
AROUND = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\ufeff\ufffe\u200b\u200c\u200d\u2060"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_HTTP = re.compile(r"(https?)://([^/?#]*)(.*)", re.IGNORECASE)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_NO_HOST = re.compile(r'[\s"<>\\^`{|}%]')
# What RFC 3986 does not allow; the rest is sent byte for byte, so that a signature in it stays valid.
_UNSAFE = re.compile(r"%(?![0-9A-Fa-f]{2})|[^!$-;=?-\[\]_a-z~]")
_PICTURE = re.compile(r"\.(jpe?g|jpe|jfif|jp2|j2k|jpx|jxl|png|gif|tiff?|webp|avif|bmp|hei[cf])$", re.IGNORECASE)


class AddressError(ValueError):
    """An address that is none; a host that does not resolve, or resolves to what strangers must not name."""


def clean(text: str) -> str:
    """`text` without what stands around an address by accident: blanks, tabs, line ends, byte order marks."""
    return text.strip(AROUND)


def absolute(text: str, base: str = "") -> str:
    """The address `text` with `base` before it, where it is relative: a URI of one of SCHEMES, or a local path.

    `//host/x.jpg` is https, unless it is the base's own host. A base with a `?` ends in a parameter (`...?file=`): the
    relative address is its value.

    Raises:
        AddressError: there is none, its scheme is not known, or it leads out of a folder or bucket.
    """
    text, base = clean(text), clean(base)
    if not text:
        raise AddressError("there is no address")
    if match := _SCHEME.match(text):
        scheme = match[1].lower()
        if scheme not in SCHEMES:
            raise AddressError(f"{scheme}: is not supported; use http, https, gs, s3, file or a path")
        return scheme + text[len(scheme) :]
    if text.startswith("//"):
        scheme, _, rest = base.partition("://")
        same_host = scheme.lower() in _WEB and rest.partition("/")[0] == text[2:].partition("/")[0]
        return f"{scheme if same_host else 'https'}:{text}"
    on_web = base.lower().startswith(("http://", "https://"))
    if on_web and ("?" in base or text.startswith("?")):
        return base + (text if text.startswith("?") else as_value(text))
    if not base or (text.startswith("/") and storage.local_path(base) is not None):
        return text
    # An HTTP server keeps to its own tree; for folders and buckets the base is a promise that `..` must not break.
    if not on_web and posixpath.normpath(text.lstrip("/")).startswith(".."):
        raise AddressError(f"{text[:200]} leads out of {base[:200]}")
    return storage.join(base, text)


def as_value(text: str) -> str:
    """A file's name as the value of a parameter."""
    return text.replace("&", "%26").replace("#", "%23").replace("+", "%2B")


def http_url(text: str) -> str:
    """An http or https address as it is sent: ASCII, the host's name encoded (IDNA), no fragment.

    What is allowed in a URL stays as it is, byte for byte. A `#` belongs to a file's name where only with it the name
    ends as an image's: `No. #5.jpg`, but not `5.jpg#page=2`.

    Raises:
        AddressError: it is no such address, or its host is no possible name.
    """
    text = clean(text)
    match = _HTTP.fullmatch(text)
    if not match or match[2].endswith("@") or not match[2] or _CONTROLS.search(text):
        raise AddressError(f"no usable address: {text[:200]!r}")
    user, at, place = match[2].rpartition("@")
    try:
        user, host = _UNSAFE.sub(_percent, user), _host(place)
        rest = _UNSAFE.sub(_percent, _without_fragment(match[3]))
    except ValueError as error:  # ports, brackets, IDNA's errors, half of a surrogate pair
        raise AddressError(f"no usable address: {text[:200]!r}") from error
    return f"{match[1].lower()}://{user}{at}{host}{rest if rest.startswith('/') else '/' + rest}"


@functools.lru_cache(1024)
def _host(place: str) -> str:
    """Host and port, in ASCII. Raises ValueError."""
    parts = urlsplit(f"http://{place}")
    host, port = parts.hostname or "", parts.port
    if not host or port == 0 or _NO_HOST.search(place):
        raise ValueError("no host, or no port")
    if not host.isascii():
        host = idna.encode(host, uts46=True).decode()
    elif "xn--" in host:
        idna.decode(host)
    host.encode("idna")  # empty labels, labels of more than 63 characters
    return (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")


def _without_fragment(rest: str) -> str:
    if "#" not in rest:
        return rest
    marks = [match.start() for match in re.finditer("#", rest)]
    for at in marks:
        name = rest[:at].rpartition("/")[2]
        if _PICTURE.search(name.partition("?")[0]) or _PICTURE.search(name):
            return rest[:at]
    is_name = _PICTURE.search(rest) or _PICTURE.search(rest[marks[0] :].partition("?")[0])
    return rest if is_name else rest[: marks[0]]


def _percent(match: re.Match) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape"))


def resolve(host: str, port: int, allow_private: bool = False) -> list[str]:
    """The addresses of `host`, a name or a literal, in the resolver's order, without repetitions.

    Raises:
        AddressError: it does not resolve; or one of the addresses is not public and `allow_private` is False.
    """
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise AddressError(f"{host[:100]} does not resolve") from error
    addresses = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
    for address in addresses:
        if not allow_private and not is_public(address):
            raise AddressError(f"{host[:100]} is in a private network")
    return addresses


def is_public(address: str) -> bool:
    """Whether `address` is a unicast address of the internet: not private, link-local, loopback or reserved."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return all(_is_public(candidate) for candidate in (parsed, *_embedded(parsed)))


def _is_public(address: Address) -> bool:
    if any(address in network for network in _EXTRA_PRIVATE if network.version == address.version):
        return False
    # These are judged by the IPv4 address inside; Python calls some of them not global, depending on its version.
    if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped or address in _NAT64):
        return True
    return address.is_global and not address.is_multicast and not address.is_reserved


def _embedded(address: Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 address leads to: mapped, 6to4, Teredo, NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [candidate for candidate in found if candidate is not None]
