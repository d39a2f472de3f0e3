"""What the data set's own report says about the selection: the parameters, and where objects went before it.

It travels in the metadata of objects.parquet, so that the assemble step can show the way from the whole collection.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict

from components.query.collection import Counts, Roles
from components.query.collections import Resolved
from components.query.labels import ClassCount
from components.query.settings import Settings

# They do not determine which objects are taken.
_NOT_OF_THE_DATA = (
    "shards",
    "project",
    "maximum_bytes_billed",
    "max_failed_fraction",
    "contact",
    "expected_classes",
    "collection",
)


def describe(
    settings: Settings,
    roles: Roles,
    counts: Counts,
    without_picture: int,
    unanswered: Mapping[str, int],
    classes: Iterable[ClassCount],
    capped: int,
    inside: str = "",
) -> str:
    """JSON: `parameters`, and `funnel`, a list of [what is left, how many, [[why some went, how many], ...]].

    The funnel counts objects first, then images (an object may have several); its last stage is what is selected.
    `inside` is where images that the collection's own files hold were put. `unanswered` says of how many of the objects
    `without_picture` nothing is known, and why.
    """
    classes = list(classes)
    parameters = {
        name: _without_token(value) for name, value in asdict(settings).items() if name not in _NOT_OF_THE_DATA
    }
    if isinstance(settings, Resolved) and settings.collection:
        stated = ("name", "title", "license", "credit", "terms", "checked", "rate")
        parameters["collection"] = {name: getattr(settings.collection, name) for name in stated}
    if inside:
        parameters["inside"] = inside
    funnel = [("objects in the collection", counts.source, []), _labelled(settings, counts)]
    labelled, known = funnel[-1][1], without_picture - sum(unanswered.values())
    funnel.append(("with a picture", labelled - without_picture, [("have no picture", known), *unanswered.items()]))
    pictures = sum(item.pictures for item in classes)
    if pictures != labelled - without_picture:
        funnel.append(("pictures of these", pictures, []))
    small = sum(item.pictures for item in classes if item.left_out.startswith("fewer"))
    others = sum(item.pictures for item in classes if item.left_out) - small
    losses = [
        (f"in classes of fewer than {settings.min_images_per_class}", small),
        (f"in classes beyond the largest {settings.max_classes}", others),
        (f"beyond {settings.max_images_per_class} a class", capped),
    ]
    funnel.append(("selected", pictures - sum(lost for _, lost in losses), losses))
    shown = [[name, count, [list(loss) for loss in lost if loss[1]]] for name, count, lost in funnel]
    found = parameters | {"label": roles.label, "group": roles.group}
    return json.dumps({"parameters": found, "funnel": shown}, ensure_ascii=False)


def _labelled(settings: Settings, counts: Counts) -> tuple[str, int, list[tuple[str, int]]]:
    losses = [
        ("do not match where", counts.source - counts.matching - counts.closed),
        ("have no open image", counts.closed),
        ("have no value to learn", counts.no_label),
        ("have no id", counts.no_id),
        ("have a value that label_map does not name", counts.unmapped),
        ("are listed twice", counts.repeated),
        ("are in two classes", counts.ambiguous),
    ]
    return "with a class", counts.source - sum(lost for _, lost in losses), losses


def _without_token(value: object) -> object:
    """A signed URL without its signature: the report is passed on."""
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        return value.partition("?")[0]
    return value
