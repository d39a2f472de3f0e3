"""What becomes of an object."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What became of one object. `bytes`, `width`, `height` and `sha256` are those of the original.

    `message` says why there is no image, or of one that there is nothing on it (shared/hashing.py, BLANK).
    `encoded_sha256` is of the stored JPEG `picture`; `thumbnail` is components.shared.hashing's, of its pixels: taken
    here, where they are in hand, so that no later step has to decode the image.
    """

    status: str  # OK or the reason of the failure
    http_status: int = 0
    attempts: int = 1
    width: int = 0
    height: int = 0
    sha256: str = ""
    seconds: float = 0.0
    message: str = ""
    encoded_sha256: str = ""
    thumbnail: bytes = b""
    picture: bytes = b""
    bytes: int = 0  # last: a field above that is called as the type would hide it
