"""Templates of image addresses: `{}` stands for what a table has of an image, `{size}` for a size in pixels.

    {}/full/!{size},{size}/0/default.jpg                       a IIIF service per image (Image API 2 and 3)
    https://host/iiif/2/{}/full/{size},/0/default.jpg          an identifier per image
    https://commons.wikimedia.org/wiki/Special:FilePath/{}?width={size}

`{size}` is what the longer side needs so that the shorter one serves `image_size`: twice that, as nearly all images are
less than twice as wide as they are high. Where a host serves certain sizes only, it is the largest of these that is not
more than that and not less than `image_size`; where there is none, the next larger one.
"""

import re

from components.shared.parameters import refuse

PLACE, SIZE = "{}", "{size}"
# Of the longer side: image_size times this.
LARGER_SIDE = 2
_BRACES = re.compile(r"\{[^{}]*\}|[{}]")
# What follows the identifier of an image in the IIIF Image API: region, size, rotation, quality and format.
IMAGE_REQUEST = r"/(full|square|[\d,]+|pct:[\d.,]+)/([^/]+)/(!?[\d.]+)/((?:default|native|color|gray|bitonal)\.\w+)"
_TAIL = re.compile(IMAGE_REQUEST + "$")


def is_template(base: str) -> bool:
    """Whether `base` says where in it an address goes; else it stands in front."""
    return PLACE in base


def is_iiif(template: str) -> bool:
    """Whether a IIIF image request follows `{}`: then what goes there is one segment of a path."""
    return bool(_TAIL.search(template.rpartition(PLACE)[2]))


def check_template(name: str, base: str) -> None:
    """Raises ParameterError where `base`, the value of the parameter `name`, has braces and is no template."""
    for found in _BRACES.findall(base):
        if found not in (PLACE, SIZE):
            raise refuse(name, base, f"{found} means nothing; write {PLACE} where the image's address or id goes")
    if PLACE not in base and (SIZE in base or _TAIL.search(base)):
        raise refuse(name, base, f"write {PLACE} where the image's address or id goes")


def allowed_sizes(name: str, text: str) -> tuple[int, ...]:
    """`250,330,500` as numbers, the smallest first. Raises ParameterError."""
    items = [item.strip() for item in text.split(",") if item.strip()]
    if not all(item.isdecimal() and 0 < int(item) <= 100_000 for item in items):
        raise refuse(name, text, "write sizes in pixels, parted by commas, such as 250,330,500")
    return tuple(sorted({int(item) for item in items}))


def larger_side(image_size: int, allowed: tuple[int, ...] = ()) -> int:
    """Pixels that `{size}` stands for; the largest that the host has where all are smaller than `image_size`."""
    wanted = LARGER_SIDE * image_size
    if not allowed:
        return wanted
    serving = [size for size in allowed if image_size <= size <= wanted]
    return max(serving) if serving else min((size for size in allowed if size > wanted), default=max(allowed))


def sized(template: str, image_size: int, allowed: tuple[int, ...] = ()) -> str:
    """`template` with a number for `{size}`."""
    return template.replace(SIZE, str(larger_side(image_size, allowed)))
