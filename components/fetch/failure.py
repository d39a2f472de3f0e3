"""Why an object could not be had: data, not a crash."""

from enum import Enum


class Retry(Enum):
    """What another attempt is good for."""

    NEVER = "never"  # it will be the same
    AGAIN = "again"  # a fault that can pass
    LATER = "later"  # the host asks for patience (429, Retry-After)


class Failure(Exception):
    """One attempt's failure. `reason` is the stable slug that the log and the reports count by."""

    def __init__(
        self, reason: str, message: str, retry: Retry = Retry.NEVER, http_status: int = 0, retry_after: float = 0.0
    ) -> None:
        super().__init__(message)
        self.reason, self.retry, self.http_status, self.retry_after = reason, retry, http_status, retry_after
        self.original: dict = {}  # bytes and sha256 of what came, where anything came


# A resumed step tries these again; every other reason is final.
PASSING = frozenset(
    {
        "timeout", "deadline", "dns", "refused", "reset", "incomplete", "host_down", "robots_unavailable", "storage",
        "http_408", "http_425", "http_429", "bad_response",
    }
)  # fmt: skip


def may_pass(reason: str) -> bool:
    """Whether an object that failed for `reason` is worth another try in a later run."""
    return reason in PASSING or reason.startswith("http_5")
