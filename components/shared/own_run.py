"""The parameters of the run that this process is a step of, beside those that are inputs of the step.

KFP's cache key has every input of a step. What does not change a result, such as the memory of the pods that make it,
is read here instead, and a result that is known stays known when it changes.
"""

import json
import os
from typing import Any

from components.shared import kubernetes
from components.shared.kubernetes import ClusterError

# How `pipeline.py run` tells them: JSON.
VARIABLE = "RUN_PARAMETERS"


def parameters() -> dict[str, Any]:
    """All parameters by the pipeline's names: those of the form, and the defaults of the others.

    On a cluster they stand in the run's Workflow; elsewhere there may be none.

    Raises:
        ClusterError: the Workflow may not be read, or is not as KFP makes it.
    """
    if not kubernetes.in_step():
        return json.loads(os.environ.get(VARIABLE) or "{}")
    cluster = kubernetes.connect()
    owners = cluster.own_pod()["metadata"].get("ownerReferences", [])
    try:
        (name,) = [owner["name"] for owner in owners if owner["kind"] == "Workflow"]
        return _of_workflow((cluster.get("argoproj.io/v1alpha1", "Workflow", name) or {})["spec"])
    except (LookupError, TypeError, ValueError) as error:
        raise ClusterError(f"the Workflow of this run does not tell its parameters: {error!r}") from error


def _of_workflow(spec: dict[str, Any]) -> dict[str, Any]:
    """Source: KFP 2.17, backend/src/v2/compiler/argocompiler/{argo,dag}.go."""
    (root,) = [each["value"] for each in spec["arguments"]["parameters"] if each["name"] == "components-root"]
    (given,) = [
        each["value"]
        for template in spec["templates"] if template["name"] == "entrypoint"
        for task in template["dag"]["tasks"] if task["name"] == "root-driver"
        for each in task["arguments"]["parameters"] if each["name"] == "runtime-config"
    ]  # fmt: skip
    declared = json.loads(root)["inputDefinitions"]["parameters"]
    defaults = {name: each["defaultValue"] for name, each in declared.items()}
    return defaults | json.loads(given).get("parameterValues", {})
