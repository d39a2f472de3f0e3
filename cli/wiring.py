"""Which parameter of the pipeline reaches which input of which step, read from the compiled graph."""

import functools
from collections.abc import Mapping
from typing import Any


@functools.cache
def inputs(step: str) -> dict[str, str]:
    """Of the task `step`: {its input: the pipeline's parameter}, for the inputs that a parameter fills directly."""
    import pipeline

    spec = pipeline.pipeline.pipeline_spec
    dags = [spec.root.dag, *(part.dag for part in spec.components.values() if part.HasField("dag"))]
    found = {}
    for task in (dag.tasks[step] for dag in dags if step in dag.tasks):
        for name, value in task.inputs.parameters.items():
            if value.component_input_parameter:
                found[name] = value.component_input_parameter.removeprefix("pipelinechannel--")
    return {name: parameter for name, parameter in found.items() if parameter in spec.root.input_definitions.parameters}


def arguments(step: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What the task `step` is given of the pipeline's parameter `values`, by the names of its own inputs."""
    return {name: values[parameter] for name, parameter in inputs(step).items()}
