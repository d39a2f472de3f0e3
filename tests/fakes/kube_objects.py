"""Objects of Kubernetes as a test's API server takes them: checked against the real OpenAPI schemas, and selected."""

import re
import time
from typing import Any

import kubernetes_validate

Object = dict[str, Any]

SCHEMA_VERSION = "1.37"
_NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")
_IMMUTABLE = {"Job": ("completions", "selector", "template", "completionMode"), "Deployment": ("selector",)}


class Refusal(Exception):
    """An answer that is not 2xx."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


def now() -> str:
    """The time as Kubernetes writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def plural(kind: str) -> str:
    """The kind as it stands in paths."""
    return kind.lower().removesuffix("y") + "ies" if kind.endswith("Policy") else kind.lower() + "s"


def validated(obj: Object) -> Object:
    """`obj` itself. Raises Refusal if it does not follow the schema of its kind."""
    name = obj.get("metadata", {}).get("name", "")
    longest = 63 if obj.get("kind") in ("Service", "Job") else 253
    if not _NAME.match(name) or len(name) > longest:
        raise Refusal(422, "Invalid", f"metadata.name: Invalid value: {name!r}")
    try:
        kubernetes_validate.validate(obj, SCHEMA_VERSION, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        pass  # a custom resource
    except kubernetes_validate.ValidationError as error:
        raise Refusal(422, "Invalid", str(error).splitlines()[0]) from error
    return obj


def check_unchanged(before: Object | None, after: Object) -> None:
    """Raises Refusal if a field differs that Kubernetes lets nobody change."""
    for field in _IMMUTABLE.get(after["kind"], ()):
        if before is not None and before["spec"].get(field) != after["spec"].get(field):
            raise Refusal(422, "Invalid", f"spec.{field}: field is immutable")


def selected(obj: Object, query: dict[str, str]) -> bool:
    """Whether `obj` is among those that the label and field selectors of `query` mean."""
    labels = obj["metadata"].get("labels", {})
    pairs = [pair.partition("=") for pair in query.get("labelSelector", "").split(",") if pair]
    if any(labels.get(name) != value.lstrip("=") if equals else name not in labels for name, equals, value in pairs):
        return False
    for name, _, value in (pair.partition("=") for pair in query.get("fieldSelector", "").split(",") if pair):
        found: Any = obj
        for part in name.split("."):
            found = found.get(part, {})
        if found != value:
            return False
    return True
