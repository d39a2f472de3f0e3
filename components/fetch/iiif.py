"""Images of IIIF services (Image API 2 and 3) that do not serve the size that was asked for.

Which forms of a size a service takes (`w,`, `!w,h`, `w,h`), up to what width, or only a list of sizes, its info.json
says. It is asked where a request was refused. What worked is remembered per host, so that one image pays for all.

https://iiif.io/api/image/3.0, https://iiif.io/api/image/2.1
"""

import asyncio
import collections
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from components.fetch.failure import Failure
from components.shared.templates import IMAGE_REQUEST, LARGER_SIDE

# "Not this size", in the words of one server or another. 404 and 500 say it too, and more often something else.
_REFUSALS = frozenset({400, 403, 413, 422, 501})
_REQUEST = re.compile(rf"(https?://.+?){IMAGE_REQUEST}(\?.*)?", re.IGNORECASE)
_SIZE = re.compile(r"(!?)(\d*),(\d*)")
# Of info.json: features, and what each level of compliance has of them.
_FORMS = {"sizeByConfinedWh": "!{w},{h}", "sizeByW": "{w},", "sizeByWh": "{w},{h}", "sizeByH": ",{h}"}
_CONFINED = _FORMS["sizeByConfinedWh"]
_FEATURES = {form: feature for feature, form in _FORMS.items()}
_LEVELS = {"1": ("sizeByW", "sizeByH"), "2": tuple(_FORMS)}


@dataclass(frozen=True)
class Request:
    """An image request: address of the service, region, size, and what stands behind it."""

    service: str
    region: str
    size: str
    rest: str

    @property
    def info(self) -> str:
        """Address of the service's description."""
        return f"{self.service}/info.json"

    def of(self, size: str) -> str:
        """The address of the same image in another size."""
        return f"{self.service}/{self.region}/{size}/{self.rest}"


def parse(address: str) -> Request | None:
    """The parts of an image request whose size is a number of pixels; None for any other address."""
    match = _REQUEST.fullmatch(address)
    if not match or not _SIZE.fullmatch(match[3]):
        return None
    return Request(match[1], match[2], match[3], f"{match[4]}/{match[5]}{match[6] or ''}")


class Services:
    """What the hosts of image services are known to take."""

    def __init__(self, image_size: int) -> None:
        """`image_size`: what the shorter side is needed for, in pixels."""
        self._image_size = image_size
        # Per host: the form of a size that worked where the one asked for did not, and the largest width.
        self._forms: dict[str, str] = {}
        self._widest: dict[str, int] = {}
        self._turns: collections.defaultdict[str, asyncio.Lock] = collections.defaultdict(asyncio.Lock)

    def turn(self, address: str) -> asyncio.Lock:
        """Held by the one image of a host that finds out what its service takes."""
        return self._turns[_host(address)]

    def adapted(self, address: str) -> str:
        """`address` in the form, and not wider, than its host has taken others."""
        request = parse(address)
        host = _host(address)
        if not request or not (host in self._forms or host in self._widest):
            return address
        side = min(_longer(request.size), self._widest.get(host, math.inf))
        return request.of(self._forms.get(host, _form(request.size)).format(w=side, h=side))

    def may_help(self, address: str, failure: Failure) -> bool:
        """Whether info.json may tell of a size that is served, where `address` failed so."""
        return failure.http_status in _REFUSALS and parse(address) is not None

    def others(self, address: str, info: bytes) -> Iterator[str]:
        """Addresses of the same image in sizes that its info.json allows, the best first. Raises ValueError."""
        request = parse(address)
        described = json.loads(info)
        if request is None or not isinstance(described, dict) or not isinstance(described.get("width"), int):
            raise ValueError("no description of an image")
        # A form that was refused is refused again, unless it asked for too much.
        refused = _form(request.size) if _longer(request.size) <= _widest(described) else ""
        listed = [f"{item['width']},{item['height']}" for item in described.get("sizes", ()) if item.get("height")]
        for size in dict.fromkeys(_sizes(described, self._image_size)):
            if size != request.size and (_form(size) != refused or size in listed):
                yield request.of(size)

    def worked(self, asked: str, address: str, info: bytes) -> None:
        """`address` was served where `asked` was not: its host's further images are asked for in this way."""
        before, request, host = parse(asked), parse(address), _host(address)
        if not before or not request:
            return
        limit = _widest(json.loads(info))
        if limit < math.inf and limit >= self._image_size:
            self._widest[host] = int(limit)
        if (form := _form(request.size)) != _form(before.size) and form != _FORMS["sizeByWh"]:
            self._forms[host] = form


def _host(address: str) -> str:
    return address.split("/", 3)[2].lower()


def _parts(size: str) -> tuple[str, str, str]:
    """`!` or nothing, width and height of a size as it stands in a request; what is not given is empty."""
    match = _SIZE.fullmatch(size)
    return (match[1], match[2], match[3]) if match else ("", "", "")


def _longer(size: str) -> int:
    return max((int(number) for number in _parts(size)[1:] if number), default=0)


def _form(size: str) -> str:
    confined, width, height = _parts(size)
    return "!{w},{h}" if confined else "{w},{h}" if width and height else "{w}," if width else ",{h}"


def _sizes(info: dict[str, Any], image_size: int) -> Iterator[str]:
    """Sizes as they stand in a request: those that the service lists, then those that it makes."""
    width, height = info["width"], info["height"]
    limit = _widest(info)
    scale = min(1.0, image_size / min(width, height), limit / max(width, height))
    wide, high = math.ceil(width * scale), math.ceil(height * scale)
    if limit < math.inf:
        wide, high = min(wide, int(limit)), min(high, int(limit))
    listed = sorted((item["width"], item["height"]) for item in info.get("sizes", ()) if item.get("height"))
    serving = [item for item in listed if min(item) >= min(wide, high) and max(item) <= limit]
    features = _features(info)
    # What is listed is made already, but an image of more than twice the size costs more than making one.
    if serving and (min(serving[0]) <= LARGER_SIDE * image_size or not features):
        yield "{},{}".format(*serving[0])
    # Those that it names come first; many servers take more than they say, or less.
    for form in sorted(_FORMS.values(), key=lambda form: form != _CONFINED and _FEATURES[form] not in features):
        yield form.format(w=wide, h=high)
    if listed and not serving:
        yield "{},{}".format(*listed[-1])


def _features(info: dict[str, Any]) -> set[str]:
    profile = info.get("profile", "")
    parts = profile if isinstance(profile, list) else [profile]
    found: set[str] = set(info.get("extraFeatures", ()))
    for part in parts:
        if isinstance(part, dict):
            found |= set(part.get("supports", ()))
        elif match := re.search(r"level(\d)", str(part)):
            found |= set(_LEVELS.get(match[1], ()))
    return found


def _widest(info: dict[str, Any]) -> float:
    """The longer side that is served at most, in pixels."""
    profile = info.get("profile")
    parts = [info, *(part for part in (profile if isinstance(profile, list) else ()) if isinstance(part, dict))]
    limits = [math.inf]
    for part in parts:
        if width := part.get("maxWidth"):
            limits.append(min(width, part.get("maxHeight") or width))
        if area := part.get("maxArea"):
            limits.append(math.isqrt(area))
    return min(limits)
