"""Why an object could not be fetched: a value in the log, not an error of the step."""

from enum import Enum

from components.artifacts.image_shard import FINAL_REASONS, OK
from components.fetch.settings import Settings


class Retry(Enum):
    """Whether another attempt can help."""

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


# The host itself could not be reached: nothing is said of the image.
UNREACHABLE = frozenset({"host_down", "refused", "dns", "timeout"})
# Of the statuses below 500, those that say something of us or of this moment, not of the image.
_PASSING_STATUSES = frozenset({"http_401", "http_403", "http_407", "http_408", "http_425", "http_429"})

_SOON = frozenset({"host_down", "refused", "timeout", "storage", "http_408", "http_425", "http_429"})


def may_pass(reason: str) -> bool:
    """Whether an object that failed for `reason` is worth another try in a later run with the same settings."""
    if reason.startswith("http_"):
        return reason.startswith("http_5") or reason in _PASSING_STATUSES
    return reason != OK and reason not in FINAL_REASONS


def passes_soon(reason: str) -> bool:
    """Whether it is the host's or the store's trouble of this moment: in a few minutes the object may well be had."""
    return reason.startswith("http_5") or reason in _SOON


def is_lifted(reason: str, settings: Settings) -> bool:
    """Whether `settings` allow what an earlier run had to refuse for `reason`."""
    if reason in ("robots", "noai"):
        return not settings.respect_robots
    return reason == "private_address" and settings.allow_private_addresses
