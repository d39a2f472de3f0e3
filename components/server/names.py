"""What the protocols share: the one model's name, and probabilities as JSON numbers."""

import numpy as np

from components.server.asked import Asked
from components.server.errors import RequestError


def checked_model(asked: Asked) -> str:
    """The model's name in the path. Raises RequestError 404, naming the one there is, if it is not this server's."""
    name, version = asked.path_params["name"], asked.path_params.get("version")
    known = asked.settings.name
    if name != known or version not in (None, "1"):
        wanted = name[:80] if version is None else f"{name[:80]} version {version[:20]}"
        raise RequestError(404, f"no model {wanted}; there is {known}, version 1", "no_such_model")
    return name


def probabilities(rows: np.ndarray) -> list[list[float]]:
    """[n, classes] float32 as lists; six digits are all that float32 says of a probability."""
    return [[round(value, 6) for value in row] for row in rows.tolist()]
