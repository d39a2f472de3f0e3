"""Which model is the champion: a path or a URI, or whatever a service of the cluster serves at this moment."""

import json

from components.artifacts.service import (
    KSERVE_KIND,
    MAIN_ANNOTATION,
    PREVIOUS_ANNOTATION,
    SERVICE_LABEL,
    URI_ANNOTATION,
    VERSION_LABEL,
)
from components.evaluate.settings import SERVED, check_passed
from components.shared.errors import PipelineError
from components.shared.kubernetes import Cluster, Forbidden, Object, connect


def resolve(champion: str) -> str:
    """The path or URI of the champion's folder; "" if there is none to beat.

    Args:
        champion: "", a path or URI, or `service:NAME` for the model that NAME now serves: none before the first one
            was deployed, so that a recurring run needs no other parameter the first time.

    Raises:
        PipelineError: NAME is no service of this project, or it cannot be looked up; or the evaluation refused the
            champion, so that whatever is better than it may still be worse than all that passed.
    """
    if not champion.startswith(SERVED):
        check_passed(champion)
        return champion
    return in_service(connect(), champion.removeprefix(SERVED).strip())


def in_service(cluster: Cluster, name: str) -> str:
    """The URI of the model that the service `name` now serves (the main one beside a canary); "" if none is there."""
    found = cluster.get("v1", "Service", name)
    if found and SERVICE_LABEL in (found["spec"].get("selector") or {}):
        version = found["spec"]["selector"].get(VERSION_LABEL) or _annotation(found, MAIN_ANNOTATION)
        return _annotation(cluster.get("apps/v1", "Deployment", f"{name}-{version}"), URI_ANNOTATION)
    # KServe puts a Service of the same name before its own object.
    inference = _inference_service(cluster, name)
    if found and not inference:
        raise PipelineError(f"champion=service:{name}: this Service serves no model of this project")
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
