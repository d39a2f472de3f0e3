"""Which model a service of the cluster now serves."""

import json

from components.artifacts.service import (
    KSERVE_KIND,
    MAIN_ANNOTATION,
    PREVIOUS_ANNOTATION,
    SERVICE_LABEL,
    URI_ANNOTATION,
    VERSION_LABEL,
)
from components.shared.errors import PipelineError
from components.shared.kubernetes import Cluster, Forbidden, Object, connect

PREFIX = "service:"


def in_service_named(model: str) -> str:
    """The URI of the model of `service:NAME`; "" if none is there yet. Raises PipelineError: it cannot be looked up."""
    return in_service(connect(), model.removeprefix(PREFIX).strip())


def in_service(cluster: Cluster, name: str) -> str:
    """The URI of the model that the service `name` now serves (the main one beside a canary); "" if none is there."""
    found = cluster.get("v1", "Service", name)
    if found and SERVICE_LABEL in (found["spec"].get("selector") or {}):
        version = found["spec"]["selector"].get(VERSION_LABEL) or _annotation(found, MAIN_ANNOTATION)
        return _annotation(cluster.get("apps/v1", "Deployment", f"{name}-{version}"), URI_ANNOTATION)
    # KServe puts a Service of the same name before its own object.
    inference = _inference_service(cluster, name)
    if found and not inference:
        raise PipelineError(f"service:{name}: this Service serves no model of this project")
    return _main_model(inference) if inference else ""


def _main_model(inference: Object) -> str:
    """The URI of the model that has most of the traffic: beside a canary the first of the predictors before it."""
    if "canaryTrafficPercent" not in inference["spec"]["predictor"]:
        return _annotation(inference, URI_ANNOTATION)
    before = json.loads(_annotation(inference, PREVIOUS_ANNOTATION) or "[]")
    arguments = before[0]["containers"][0]["args"] if before else ["--model", ""]
    return arguments[arguments.index("--model") + 1]


def _inference_service(cluster: Cluster, name: str) -> Object | None:
    try:
        return cluster.get(*KSERVE_KIND, name)
    except Forbidden:
        return None  # KFP's own role knows nothing of KServe, and what this account did not deploy it does not serve


def _annotation(item: Object | None, name: str) -> str:
    return ((item or {}).get("metadata", {}).get("annotations") or {}).get(name, "")
