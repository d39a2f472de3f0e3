"""The cluster for which the pipeline is compiled, and the options of `compile` and `submit` that describe it."""

import argparse
import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.parameters import resolve
from components.container_images import NAMES, PREFIX, TAG
from components.shared.errors import PipelineError

DROP_DOWNS = (
    "data_source", "check_conflicts", "train_model", "train_head", "train_view", "train_optimizer",
    "train_augmentation", "train_balance", "train_precision", "train_quantize", "serve_kind",
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """What is known of the cluster when the pipeline is compiled."""

    registry: str = ""
    tag: str = TAG
    digests: Mapping[str, str] = field(default_factory=dict)
    variant: str = ""
    node_selectors: tuple[str, ...] = ()
    tolerations: tuple[str, ...] = ()
    worker_scheduler: str = ""
    worker_priority_class: str = ""
    worker_environment: tuple[str, ...] = ()
    pull_secret: str = ""
    pull_policy: str = ""
    retries: bool = True
    caching: bool = True
    limits: bool = True
    drop_downs: tuple[str, ...] = DROP_DOWNS

    def image(self, name: str) -> str:
        """Reference of the image `name` in the registry; by digest where one is known."""
        if name in self.digests:
            return self.digests[name]
        suffix = f"-{self.variant}" if self.variant and name == "train" else ""
        return f"{self.registry.rstrip('/')}/{PREFIX}-{name}:{self.tag}{suffix}".lstrip("/")

    def accepting(self, values: Mapping[str, Any]) -> "Target":
        """The same without the drop-downs that would refuse one of the parameters' `values`."""
        kept = tuple(name for name in self.drop_downs if values.get(name) in (None, *allowed_values(name)))
        return dataclasses.replace(self, drop_downs=kept)


def add_target_options(parser: argparse.ArgumentParser) -> None:
    """The options that describe the cluster."""
    add = parser.add_argument_group("cluster").add_argument
    add("--registry", default="", metavar="PREFIX", help="registry of the images, such as ghcr.io/you")
    add("--tag", default=TAG, help=f"tag of the images (default: {TAG})")
    add("--digests", metavar="FILE", help="images.json that make push wrote: images by digest (goes before --registry)")
    add("--gpu", dest="variant", action="store_const", const="gpu", default="", help="train in the image with CUDA")
    add("--node-selector", action="append", default=[], metavar="[STEP:]KEY=VALUE", help="nodes for all steps, or one")
    add("--toleration", action="append", default=[], metavar="[STEP:]KEY[=VALUE][:EFFECT]", help="taints to tolerate")
    add("--worker-scheduler", default="", metavar="NAME", help="scheduler of the training workers' pods")
    add("--worker-env", action="append", default=[], metavar="NAME=VALUE", help="variable of the training workers")
    add("--worker-priority-class", default="", metavar="NAME", help="PriorityClass of the training workers' pods")
    add("--image-pull-secret", default="", metavar="NAME", help="Secret with which the images are pulled")
    add("--image-pull-policy", default="", choices=["Always", "IfNotPresent", "Never"], help="default: the cluster's")
    add("--no-retries", dest="retries", action="store_false", help="a failed step fails the run at once")
    add("--no-limits", dest="limits", action="store_false",
        help="no end of long runs and finished Workflows in the YAML: KFP before 2.17 refuses it")  # fmt: skip
    add("--drop-downs", default=",".join(DROP_DOWNS), metavar="NAMES",
        help="parameters that the run form offers as lists; '' for none, if your KFP is older than 2.17 or you want "
        "several models in one run (default: %(default)s)")  # fmt: skip


def read_target(options: argparse.Namespace) -> Target:
    """The Target that the command line describes. Raises PipelineError: digests or lists that cannot be used."""
    try:
        names = tuple(resolve(name, DROP_DOWNS) for name in options.drop_downs.split(",") if name)
    except PipelineError as error:
        raise PipelineError(f"--drop-downs: {error}") from None
    return Target(
        registry=options.registry,
        tag=options.tag,
        digests=_digests(options.digests) if options.digests else {},
        variant=options.variant,
        node_selectors=tuple(options.node_selector),
        tolerations=tuple(options.toleration),
        worker_scheduler=_name("--worker-scheduler", options.worker_scheduler),
        worker_priority_class=_name("--worker-priority-class", options.worker_priority_class),
        worker_environment=tuple(map(_variable, options.worker_env)),
        pull_secret=options.image_pull_secret,
        pull_policy=options.image_pull_policy,
        retries=options.retries,
        limits=options.limits,
        drop_downs=names,
    )


def allowed_values(name: str) -> list[str]:
    """What the drop-down of the parameter `name` offers."""
    from components.assemble.settings import CONFLICTS
    from components.query import collections
    from components.query.settings import SOURCES
    from components.serve.deployment import KINDS
    from components.train import settings
    from components.train.zoo import ZOO

    lists = {
        "data_source": (*SOURCES, *(name for name in collections.names() if name not in SOURCES)),
        "check_conflicts": CONFLICTS,
        "train_model": ZOO,
        "train_head": settings.HEADS,
        "train_view": settings.VIEWS,
        "train_optimizer": settings.OPTIMIZERS,
        "train_augmentation": settings.AUGMENTATIONS,
        "train_balance": settings.BALANCES,
        "train_precision": settings.PRECISIONS,
        "train_quantize": settings.QUANTIZATIONS,
        "serve_kind": KINDS,
    }
    return list(lists[name])


def _variable(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*=[^\n]*", text) or "{{" in text:
        raise PipelineError(f"--worker-env {text}: write NAME=VALUE on one line, such as NCCL_SOCKET_IFNAME=eth0")
    return text


def _name(option: str, value: str) -> str:
    if value and not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?", value):
        raise PipelineError(f"{option} {value}: no name of Kubernetes has this form; use a-z, 0-9, . and -")
    return value


def _digests(path: str) -> dict[str, str]:
    try:
        found = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise PipelineError(f"--digests {path}: {error}; make push writes this file") from error
    missing = [name for name in NAMES if not isinstance(found.get(name), str)]
    if missing:
        raise PipelineError(f"--digests {path}: no reference for {', '.join(missing)}; make push writes this file")
    return found
