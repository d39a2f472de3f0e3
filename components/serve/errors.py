"""Errors of a request as the client sees them: a status and a line, never a stack trace."""

from components.shared.imaging import ImageError

# ImageError's reasons that have a status of their own; the others are 422: a picture, but one that cannot be read.
IMAGE_STATUS = {"not_an_image": 415, "too_many_pixels": 413}


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
    """The answer to a picture that is none."""
    return RequestError(IMAGE_STATUS.get(error.reason, 422), f"cannot use this picture: {error}", error.reason)


def busy(message: str = "all workers are busy: try again in a second") -> RequestError:
    """The answer when the queue is full."""
    return RequestError(503, message, "busy", retry_after=1)
