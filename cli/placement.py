"""Where a cluster may run the steps: node selectors, tolerations and the images' pull secret, at compile time."""

import re
from typing import Any

from cli.target import Target
from components.shared.errors import PipelineError
from components.step_resources import NEEDS
from components.train.launcher.job import PRIORITY_ANNOTATION, SCHEDULER_ANNOTATION

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def apply(platform: dict[str, Any], target: Target) -> None:
    """Adds what `target` says to the platform part of a compiled pipeline. Raises PipelineError."""
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for step, executor in executors.items():
        _place(executor, step.removeprefix("exec-"), target)


def _place(executor: dict[str, Any], step: str, target: Target) -> None:
    labels = dict(pair for where, pair in map(node_selector, target.node_selectors) if where in ("", step))
    if labels:
        executor["nodeSelector"] = {"labels": labels}
    tolerations = [found for where, found in map(toleration, target.tolerations) if where in ("", step)]
    if tolerations:
        executor["tolerations"] = tolerations
    if step == "train":
        notes = {PRIORITY_ANNOTATION: target.worker_priority_class, SCHEDULER_ANNOTATION: target.worker_scheduler}
        if notes := {name: value for name, value in notes.items() if value}:
            executor.setdefault("podMetadata", {}).setdefault("annotations", {}).update(notes)
    if target.pull_secret:
        executor["imagePullSecret"] = [{"secretName": target.pull_secret}]
    if target.pull_policy:
        executor["imagePullPolicy"] = target.pull_policy


def node_selector(text: str) -> tuple[str, tuple[str, str]]:
    """`train:pool=gpu` is ("train", ("pool", "gpu")); without a step it is for all of them ("")."""
    step, rest = _step(text)
    key, separator, value = rest.partition("=")
    if not (key and separator):
        raise PipelineError(f"--node-selector {text}: write KEY=VALUE or STEP:KEY=VALUE, such as train:pool=gpu")
    return step, (key, value)


def toleration(text: str) -> tuple[str, dict[str, str]]:
    """`train:nvidia.com/gpu:NoSchedule` is ("train", {key, operator: Exists, effect}); `KEY=VALUE` tests equality."""
    step, rest = _step(text)
    found = re.fullmatch(r"([^=:]+)(?:=([^:]*))?(?::(\w+))?", rest)
    if not found or (found[3] and found[3] not in _EFFECTS):
        effects = ", ".join(_EFFECTS)
        raise PipelineError(f"--toleration {text}: write [STEP:]KEY[=VALUE][:EFFECT], EFFECT one of {effects}")
    key, value, effect = found.groups()
    result = {"key": key, "operator": "Exists" if value is None else "Equal"}
    result |= {"value": value} if value is not None else {}
    return step, result | ({"effect": effect} if effect else {})


def _step(text: str) -> tuple[str, str]:
    step, separator, rest = text.partition(":")
    return (step, rest) if separator and step in NEEDS else ("", text)
