"""What becomes of an object."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What became of one object. `bytes`, `width`, `height` and `sha256` are those of the original."""

    status: str  # "ok" or the reason of the failure
    http_status: int = 0
    attempts: int = 1
    bytes: int = 0
    width: int = 0
    height: int = 0
    sha256: str = ""
    seconds: float = 0.0
    message: str = ""
    picture: bytes = b""  # the stored JPEG
