"""The container image of each step."""

NAMES = ("data", "train", "serve")
PREFIX = "museum-classifier"
TAG = "0.1.0"  # the project's version: setup.cfg takes it from here


def image(name: str) -> str:
    """Reference of the image `name` (one of NAMES) as the components carry it: `museum-classifier-data:0.1.0`.

    `pipeline.py compile --registry/--tag/--digests` replaces it by the reference of a registry.

    Raises:
        ValueError: `name` is not one of NAMES.
    """
    if name not in NAMES:
        raise ValueError(f"no image {name!r}; there are {', '.join(NAMES)}")
    return f"{PREFIX}-{name}:{TAG}"
