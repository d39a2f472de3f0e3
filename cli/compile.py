"""`pipeline.py compile`: the pipeline as the YAML that the Kubeflow UI takes."""

import argparse
import dataclasses
import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator, Mapping

import yaml

from cli import placement
from cli.cluster import NEEDS
from components.images import NAMES, PREFIX, TAG, image
from components.shared.errors import PipelineError
from components.shared.limits import check_shards

DROP_DOWNS = ("source", "model", "augmentation")
# Waits between the attempts of a step: what ends a pod early (a reclaimed node, a full registry) takes minutes to pass.
RETRY = {"backoffDuration": "30s", "backoffFactor": 2.0}


@dataclass(frozen=True)
class Target:
    """What is known of the cluster when the pipeline is compiled."""

    registry: str = ""
    tag: str = TAG
    digests: Mapping[str, str] = field(default_factory=dict)
    variant: str = ""
    node_selectors: tuple[str, ...] = ()
    tolerations: tuple[str, ...] = ()
    pull_secret: str = ""
    pull_policy: str = ""
    retries: bool = True
    caching: bool = True
    drop_downs: tuple[str, ...] = DROP_DOWNS

    def image(self, name: str) -> str:
        """Reference of the image `name` in the registry; by digest where one is known."""
        if name in self.digests:
            return self.digests[name]
        suffix = f"-{self.variant}" if self.variant and name == "train" else ""
        return f"{self.registry.rstrip('/')}/{PREFIX}-{name}:{self.tag}{suffix}".lstrip("/")

    def accepting(self, values: Mapping[str, Any]) -> "Target":
        """The same without the drop-downs that would refuse one of the parameters' `values`."""
        kept = tuple(name for name in self.drop_downs if values.get(name) in (None, *_allowed(name)))
        return dataclasses.replace(self, drop_downs=kept)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `compile`."""
    parser.add_argument("--output", default="pipeline.yaml", help="file to write (default: pipeline.yaml)")
    add_target_options(parser)


def add_target_options(parser: argparse.ArgumentParser) -> None:
    """Options that describe the cluster; `submit` takes them too."""
    add = parser.add_argument_group("cluster").add_argument
    add("--registry", default="", metavar="PREFIX", help="registry of the images, such as ghcr.io/you")
    add("--tag", default=TAG, help=f"tag of the images (default: {TAG})")
    add("--digests", metavar="FILE", help="images.json that make push wrote: images by digest (goes before --registry)")
    add("--gpu", dest="variant", action="store_const", const="gpu", default="", help="train in the image with CUDA")
    add("--node-selector", action="append", default=[], metavar="[STEP:]KEY=VALUE", help="nodes for all steps, or one")
    add("--toleration", action="append", default=[], metavar="[STEP:]KEY[=VALUE][:EFFECT]", help="taints to tolerate")
    add("--image-pull-secret", default="", metavar="NAME", help="Secret with which the images are pulled")
    add("--image-pull-policy", default="", choices=["Always", "IfNotPresent", "Never"], help="default: the cluster's")
    add("--no-retries", dest="retries", action="store_false", help="a failed step fails the run at once")
    add("--drop-downs", default=",".join(DROP_DOWNS), metavar="NAMES",
        help="parameters that the run form offers as lists; '' for none, if your KFP is older than 2.17 or you want "
        "several models in one run (default: %(default)s)")  # fmt: skip


def target(options: argparse.Namespace) -> Target:
    """The Target that the command line describes. Raises PipelineError if the digests cannot be used."""
    names = tuple(name for name in options.drop_downs.split(",") if name)
    if unknown := set(names) - set(DROP_DOWNS):
        raise PipelineError(f"--drop-downs: no list is known for {', '.join(sorted(unknown))}; use {', '.join(DROP_DOWNS)}")
    return Target(
        registry=options.registry,
        tag=options.tag,
        digests=_digests(options.digests) if options.digests else {},
        variant=options.variant,
        node_selectors=tuple(options.node_selector),
        tolerations=tuple(options.toleration),
        pull_secret=options.image_pull_secret,
        pull_policy=options.image_pull_policy,
        retries=options.retries,
        drop_downs=names,
    )


def main(options: argparse.Namespace, arguments: Mapping[str, Any] | None = None) -> int:
    """Writes the compiled pipeline to `options.output`; returns the exit status."""
    chosen = target(options)
    check_shards((arguments or {}).get("shards", 0), on_cluster=True)
    write(options.output, chosen, arguments or {})
    warn_of_bare_images(chosen)
    print(f"{options.output}: upload it to the Kubeflow UI, or: python pipeline.py submit --host URL")
    return 0


def warn_of_bare_images(target_: Target) -> None:
    """Says that images without a registry have to be in the nodes already."""
    if not target_.registry and not target_.digests:
        print(
            f"warning: images have no registry ({target_.image('data')}), so the nodes must have them (kind load); "
            "else make images push, and give --digests images.json or --registry",
            file=sys.stderr,
        )


def write(output: str, target_: Target = Target(), defaults: Mapping[str, Any] | None = None) -> None:
    """Compiles the pipeline for `target_` into the file `output`; `defaults` are what the run form is filled with."""
    from kfp import compiler

    import pipeline

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pipeline.yaml")
        compiler.Compiler().compile(pipeline.pipeline, str(path), pipeline_parameters=dict(defaults or {}))
        text = path.read_text()
    comments = [line for line in text.splitlines() if line.startswith("#")]
    spec, platform = yaml.safe_load_all(text)
    references = {image(name): target_.image(name) for name in NAMES}
    spec = _replaced(spec, references)
    if target_.retries:
        _add_retries(spec)
    if not target_.caching:
        # The client's own switch reaches neither a pipeline that is uploaded nor tasks in a loop or a condition.
        for _, task in _tasks(spec):
            task["cachingOptions"] = {}
    _add_drop_downs(spec, target_.accepting(defaults or {}).drop_downs)
    placement.apply(platform, target_)
    documents = [yaml.dump(document, Dumper=_Dumper, sort_keys=True, width=120) for document in (spec, platform)]
    Path(output).write_text("\n".join(comments) + "\n" + "---\n".join(documents))


class _Dumper(yaml.SafeDumper):
    """Source code as a block that a person can read, instead of one quoted line."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _digests(path: str) -> dict[str, str]:
    try:
        found = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise PipelineError(f"--digests {path}: {error}; make push writes this file") from error
    missing = [name for name in NAMES if not isinstance(found.get(name), str)]
    if missing:
        raise PipelineError(f"--digests {path}: no reference for {', '.join(missing)}; make push writes this file")
    return found


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
    for name in names:
        parameters[name]["literals"] = _allowed(name)


def _allowed(name: str) -> list[str]:
    from components.query.settings import SOURCES
    from components.train.models import ZOO
    from components.train.settings import AUGMENTATIONS

    return list({"source": SOURCES, "model": ZOO, "augmentation": AUGMENTATIONS}[name])
