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


# Kinds whose status changes by its own path only.
_WITH_STATUS = ("Deployment", "HorizontalPodAutoscaler", "Job", "Pod", "Service")


def with_status_of(obj: Object, before: Object | None) -> Object:
    """`obj` with the status that is stored: one that comes with the object is not heard."""
    if obj["kind"] not in _WITH_STATUS:
        return obj
    given = {name: value for name, value in obj.items() if name != "status"}
    first = {"status": {"phase": "Pending"}} if obj["kind"] == "Pod" else {}
    return given | ({"status": before["status"]} if "status" in (before or {}) else {} if before else first)


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


def check_version(live: Object | None, obj: Object) -> None:
    """Raises Refusal if `obj` was made of another state than the one that is stored."""
    wanted, uid = (obj["metadata"].get(field) for field in ("resourceVersion", "uid"))
    if uid and live is None:
        raise Refusal(409, "Conflict", f"uid mismatch: {uid} was specified, and no existing object was found")
    if wanted and live is not None and wanted != live["metadata"]["resourceVersion"]:
        raise Refusal(409, "Conflict", "the object has been modified; apply your changes to the latest version")


def selected(obj: Object, query: dict[str, str]) -> bool:
    """Whether `obj` is among those that the label and field selectors of `query` mean."""
    labels = obj["metadata"].get("labels", {})
    requirements = re.findall(r"[^,(]+(?:\([^)]*\))?", query.get("labelSelector", ""))
    if not all(_has_label(labels, text.strip()) for text in requirements):
        return False
    for name, operator, value in re.findall(r"([^,=!]+)(!=|==?)([^,]*)", query.get("fieldSelector", "")):
        found: Any = obj
        for part in name.split("."):
            found = found.get(part, {})
        if (found == value) == (operator == "!="):
            return False
    return True


def _has_label(labels: dict[str, str], requirement: str) -> bool:
    """One requirement of a label selector: `a`, `!a`, `a=1`, `a==1`, `a!=1`, `a in (1, 2)`, `a notin (1, 2)`."""
    if found := re.fullmatch(r"(\S+)\s+(in|notin)\s+\((.*)\)", requirement):
        name, operator, values = found.groups()
        return (labels.get(name) in re.split(r"\s*,\s*", values)) == (operator == "in")
    if found := re.fullmatch(r"([^=!]+)(!=|==?)(.*)", requirement):
        name, operator, value = found.groups()
        return (labels.get(name) == value) == (operator != "!=")
    return (requirement.lstrip("!") in labels) != requirement.startswith("!")
