"""Errors of a request as the client sees them: a status and a line, never a stack trace."""

from components.shared.imaging import ImageError

# Status and words for ImageError's reasons; its own text is for logs, and may repeat what was sent.
_IMAGE_ERRORS = {
    "not_an_image": (415, "this is not a picture of a known kind: send JPEG, PNG, WebP, GIF, TIFF, BMP or AVIF"),
    "unsupported": (415, "this kind of picture cannot be read: send JPEG, PNG, WebP, GIF, TIFF, BMP or AVIF of 8 bits"),
    "too_many_pixels": (
        413,
        "this picture has too many pixels: send at most 20 million (baseline JPEG 400, progressive JPEG 40)",
    ),
    "truncated": (422, "the picture is cut off: its last part is missing"),
    "too_thin": (422, "the picture is a mere line: send one that is less narrow"),
}


class RequestError(Exception):
    """An answer other than 200: `status`, a line that says what to do, and a slug that programs can compare."""

    def __init__(self, status: int, message: str, reason: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.reason, self.retry_after = status, message, reason, retry_after

    def body(self) -> dict:
        """`{"error": message, "reason": slug}`: the form that TensorFlow Serving, KServe V1 and V2 share."""
        return {"error": self.message, "reason": self.reason}

    def headers(self) -> dict[str, str]:
        """Retry-After where a later try can succeed."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


def from_image_error(error: ImageError) -> RequestError:
    """The answer to an image that is none."""
    status, message = _IMAGE_ERRORS.get(error.reason, (422, "the picture is damaged and cannot be read"))
    return RequestError(status, message, error.reason)


def busy(message: str = "all workers are busy: try again in a second") -> RequestError:
    """The answer when the queue is full."""
    return RequestError(503, message, "busy", retry_after=1)
