"""`pipeline.py compile`: the pipeline as the YAML that the Kubeflow UI takes."""

import argparse
import importlib
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from cli import manifest, placement
from cli.target import Target, add_target_options, allowed_values, read_target
from components.container_images import NAMES, image
from components.step_resources import NEEDS

GRAPHS = {"run": "pipeline", "annotate": "annotate_pipeline"}
# Waits between the attempts of a step: what ends a pod early (a reclaimed node, a full registry) takes minutes to pass.
RETRY = {"backoffDuration": "30s", "backoffFactor": 2.0}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `compile`."""
    parser.add_argument("--output", default="pipeline.yaml", help="file to write (default: pipeline.yaml)")
    chosen = "run: train and serve; annotate: suggest labels with a trained model (default: %(default)s)"
    parser.add_argument("--pipeline", default="run", choices=list(GRAPHS), help=chosen)
    add_target_options(parser)
    manifest.add_options(parser)


def main(options: argparse.Namespace, arguments: Mapping[str, Any] | None = None) -> int:
    """Writes the compiled pipeline to `options.output`; returns the exit status."""
    target = read_target(options)
    labels = manifest.tags(options)
    if options.kubernetes_manifest:
        _, spec, platform = compiled(target, arguments or {}, options.pipeline)
        objects = manifest.documents(spec, platform, options.manifest_namespace, labels)
        Path(options.output).write_text(_yaml(objects), encoding="utf-8")
        warn_of_bare_images(target)
        print(f"{options.output}: {objects[1]['metadata']['name']}; commit it for Argo CD or Flux, or kubectl apply it")
        return 0
    write(options.output, target, arguments or {}, options.pipeline)
    warn_of_bare_images(target)
    print(f"{options.output}: upload it to the Kubeflow UI, or: python pipeline.py submit --host URL")
    return 0


def warn_of_bare_images(target: Target) -> None:
    """Says that images without a registry have to be in the nodes already."""
    if not target.registry and not target.digests:
        print(
            f"warning: images have no registry ({target.image('data')}), so the nodes must have them (kind load); "
            "else make images push, and give --digests images.json or --registry",
            file=sys.stderr,
        )


def write(
    output: str, target: Target = Target(), defaults: Mapping[str, Any] | None = None, graph: str = "run"
) -> None:
    """Compiles one of GRAPHS for `target` into the file `output`; `defaults` are what the run form is filled with."""
    comments, spec, platform = compiled(target, defaults or {}, graph)
    Path(output).write_text("\n".join(comments) + "\n" + _yaml([spec, platform]), encoding="utf-8")


def compiled(target: Target, defaults: Mapping[str, Any], graph: str = "run") -> tuple[list[str], dict, dict]:
    """The head of comments, the pipeline's part and the platform's part of the compiled pipeline, one of GRAPHS."""
    from kfp import compiler

    pipeline = importlib.import_module(GRAPHS[graph])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pipeline.yaml")
        compiler.Compiler().compile(pipeline.pipeline, str(path))
        text = path.read_text(encoding="utf-8")
    comments = [_with_default(line, defaults) for line in text.split("\n") if line.startswith("#")]
    spec, platform = yaml.safe_load_all(text)
    # Not by the compiler, which writes values into comments as they are: one of two lines makes a broken YAML.
    for name, value in defaults.items():
        spec["root"]["inputDefinitions"]["parameters"][name]["defaultValue"] = value
    references = {image(name): target.image(name) for name in NAMES}
    spec = _replaced(spec, references)
    _run_from_image(spec, pipeline)
    if target.retries:
        _add_retries(spec)
    if not target.caching:
        # The client's own switch reaches neither a pipeline that is uploaded nor tasks in a loop or a condition.
        for _, task in _tasks(spec):
            task["cachingOptions"] = {}
    _add_drop_downs(spec, target.accepting(defaults).drop_downs)
    placement.apply(platform, target)
    if target.worker_environment:  # workers inherit it from the train step
        pairs = [dict(zip(("name", "value"), text.split("=", 1))) for text in target.worker_environment]
        spec["deploymentSpec"]["executors"]["exec-train"]["container"].setdefault("env", []).extend(pairs)
    if not target.limits:
        platform["platforms"]["kubernetes"].pop("pipelineConfig", None)
    return comments, spec, platform


def _yaml(documents: Iterable[dict]) -> str:
    return "---\n".join(yaml.dump(each, Dumper=_Dumper, sort_keys=True, width=120) for each in documents)


def _with_default(comment: str, defaults: Mapping[str, Any]) -> str:
    """`#    label: str [Default: '']` with the default of now."""
    head, found, _ = comment.partition(" [Default: ")
    name = head.lstrip("# ").partition(":")[0]
    return f"{head}{found}{ascii(defaults[name])}]" if found and name in defaults else comment


def _run_from_image(spec: dict, graph: ModuleType) -> None:
    """Components run from their image, see components/step.py: the Workflow's status has each command eight times."""
    functions = [value.python_func for value in vars(graph).values() if hasattr(value, "python_func")]
    modules = {function.__name__: function.__module__ for function in functions}
    for name, executor in spec["deploymentSpec"]["executors"].items():
        module = modules[name.removeprefix("exec-")]
        executor["container"]["command"] = ["python3", "-m", "components.step", module]
        for kind in ("cpuRequest", "cpuLimit", "memoryRequest", "memoryLimit"):  # for KFP before 2.13
            del executor["container"]["resources"][kind]


class _Dumper(yaml.SafeDumper):
    """Source code as a block that a person can read, instead of one quoted line."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # In all other styles YAML reads these as a line's end, which it makes a newline.
    style = '"' if set(text) & set("\r\x85\u2028\u2029") else "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _replaced(value: Any, replacements: Mapping[str, str]) -> Any:
    """`value` with every string in it that is a key of `replacements` exchanged: images stand in several places."""
    if isinstance(value, dict):
        return {key: _replaced(item, replacements) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, replacements) for item in value]
    return replacements.get(value, value) if isinstance(value, str) else value


def _add_retries(spec: dict) -> None:
    # Not in pipeline.py: kfp.local would retry as well, and there a mistake of the user has to end the run at once.
    for name, task in _tasks(spec):
        if name in NEEDS and NEEDS[name].retries:
            # To Argo this is no longest pause: it is the time from the start of the first attempt within which others
            # may start, and at whose end a later one is killed. KFP writes 0 where it is missing: no retry at all.
            window = {"backoffMaxDuration": f"{NEEDS[name].retry_window}s"}
            task["retryPolicy"] = {"maxRetryCount": NEEDS[name].retries, **RETRY, **window}


def _tasks(spec: dict) -> Iterator[tuple[str, dict]]:
    parts = [spec["root"], *spec["components"].values()]
    for part in parts:
        yield from part.get("dag", {}).get("tasks", {}).items()


def _add_drop_downs(spec: dict, names: tuple[str, ...]) -> None:
    """KFP 2.17 offers `literals` as a list and refuses other values; its SDK loads them but cannot emit them yet."""
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    for name in set(names) & set(parameters):
        parameters[name]["literals"] = allowed_values(name)
