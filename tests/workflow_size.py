"""How large the Argo Workflow of a compiled pipeline becomes on a stock Kubeflow Pipelines 2.17, in bytes.

KFP's compiler puts the specifications of a task into the inputs of its driver's node, and the driver's answer, a patch
of the pod's spec, into the inputs of all nodes of the task (backend/src/v2/compiler/argocompiler, driver/driver.go).
The retries of the stock Argo configuration make two nodes of each. This is a little more than on a real one, where an
iteration of 12 nodes has 67.5 kB (75 here), and one of 18 nodes had 128 kB (136 here).
"""

import json
from dataclasses import dataclass
from typing import Any

# Argo compresses a Workflow above this, and KFP's API server does not look into what is compressed.
LIMIT = 1 << 20
# A node without its parameters: names, times, children, template.
_NODE = 620
_PARAMETER = 40
# The Workflow's spec beside the arguments that hold the components.
_TEMPLATES = 38_000
_ROOT = "minio://mlpipeline/v2/artifacts/museum-classifier/" + "0" * 36
_STORE_SESSION = "x" * 230  # how the launcher reaches an artifact's store, in its metadata
_LAUNCHER = "x" * 300  # its further arguments: servers, ports, the run


@dataclass(frozen=True)
class Size:
    """Bytes of what does not depend on the number of shards, and of one iteration of the loop."""

    rest: int
    iteration: int

    def total(self, shards: int) -> int:
        """The whole Workflow at the end of the run."""
        return self.rest + shards * self.iteration


def size(spec: dict, platform: dict, values: dict[str, Any]) -> Size:
    """Size of a run's Workflow.

    Args:
        spec: the pipeline's part of the compiled YAML.
        platform: what its platform part says of the executors.
        values: the run's parameters.
    """
    return _Measure(spec, platform, values).size()


class _Measure:
    def __init__(self, spec: dict, platform: dict, values: dict[str, Any]) -> None:
        self._spec, self._platform, self._values = spec, platform, values
        self._executors = {name: each["container"] for name, each in spec["deploymentSpec"]["executors"].items()}
        self._rest = self._iteration = 0

    def size(self) -> Size:
        texts = [*self._spec["components"].values(), self._spec["root"], *self._executors.values()]
        self._rest += _TEMPLATES + sum(_quoted(_json(each)) for each in [*texts, *self._platform.values()])
        values = _json({"parameterValues": self._values})
        self._rest += 2 * _node(_json(self._spec["root"]), values) + 2 * _node()
        for name, task in self._spec["root"]["dag"]["tasks"].items():
            self._task(name, task, in_loop=False)
        return Size(self._rest, self._iteration)

    def _task(self, name: str, task: dict, in_loop: bool) -> None:
        component = self._spec["components"][task["componentRef"]["name"]]
        if "dag" not in component:
            self._add(self._container(name, task, component), in_loop)
            return
        driver = 2 * _node(_json(component), _json(task))
        if "parameterIterator" in task:
            self._add(driver + 2 * _node(), in_loop)
            in_loop = True
            self._add(2 * _node(), in_loop)
        self._add(driver + 2 * _node(), in_loop)
        for inner, inner_task in component["dag"]["tasks"].items():
            self._task(inner, inner_task, in_loop)

    def _add(self, size: int, in_loop: bool) -> None:
        if in_loop:
            self._iteration += size
        else:
            self._rest += size

    def _container(self, name: str, task: dict, component: dict) -> int:
        label = component["executorLabel"]
        container, platform = self._executors[label], self._platform[label]
        patch = _json(self._patch(name, task, component, container, platform))
        driver = _node(_json(component), _json(task), _json(container), _json(platform), patch)
        return 2 * driver + 4 * _node(patch)

    def _patch(self, name: str, task: dict, component: dict, container: dict, platform: dict) -> dict:
        given = _json(self._executor_input(name, task, component))
        command = ["/kfp-launcher/launch", "--executor_input", given, "--component_spec", _json(component), _LAUNCHER]
        arguments = [*container["command"], *(text.replace("{{$}}", given) for text in container["args"])]
        variables = [
            {"name": key["envVar"], "valueFrom": {"secretKeyRef": {
                "name": "museum-classifier-store", "key": key["secretKey"], "optional": True}}}
            for secret in platform.get("secretAsEnv", []) for key in secret["keyToEnv"]
        ]  # fmt: skip
        volumes = [*platform.get("secretAsVolume", []), *platform.get("emptyDirMounts", [])]
        main = {"name": "main", "image": container["image"], "command": command, "args": arguments, "env": variables}
        main |= {"resources": container["resources"], "volumeMounts": volumes}
        return {"containers": [main], "volumes": volumes}

    def _executor_input(self, name: str, task: dict, component: dict) -> dict:
        definitions, outputs = component.get("inputDefinitions", {}), component.get("outputDefinitions", {})
        values = {
            key: self._values.get(source.get("componentInputParameter", "").removeprefix("pipelinechannel--"), "x" * 20)
            for key, source in task.get("inputs", {}).get("parameters", {}).items()
        }
        return {
            "inputs": {
                "parameterValues": values,
                "artifacts": {key: artifact("query", key, store_session_info=_STORE_SESSION)
                              for key in definitions.get("artifacts", {})},
            },
            "outputs": {
                "artifacts": {key: artifact(name, key) for key in [*outputs.get("artifacts", {}), "executor-logs"]},
                "parameters": {key: {"outputFile": f"/tmp/kfp/outputs/{key}"} for key in outputs.get("parameters", {})},
                "outputFile": f"/minio/{_ROOT}/output_metadata.json",
            },
        }  # fmt: skip


def artifact(task: str, name: str, **metadata: str) -> dict:
    """An artifact as it stands in the input of an executor."""
    found = {"name": name, "uri": f"{_ROOT}/{task}/{'0' * 36}/{name}", "type": {"schemaTitle": "system.Artifact"}}
    return {"artifacts": [{**found, "metadata": {"display_name": name, **metadata}}]}


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _quoted(text: str) -> int:
    return len(json.dumps(text))


def _node(*parameters: str) -> int:
    return _NODE + sum(_quoted(text) + _PARAMETER for text in parameters)
