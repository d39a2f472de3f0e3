"""Checks of parameter values before any work: each stage's own Settings refuse what the stage would refuse."""

import dataclasses
import importlib
from typing import Any

from cli import wiring

# Modules without a stage's libraries: where only kfp is installed the values are checked as well.
SETTINGS = (
    ("query", "components.query.settings", "Settings"),
    ("fetch", "components.fetch.settings", "Settings"),
    ("assemble", "components.assemble.settings", "Settings"),
    ("train", "components.train.settings", "Settings"),
    ("train", "components.train.launcher.resources", "Resources"),
    ("evaluate", "components.evaluate.settings", "Settings"),
    ("serve", "components.serve.deployment", "Settings"),
    ("", "components.step_resources", "Settings"),
)
# What a stage is given by the stage before it; nothing is known of these yet.
_FROM_OTHER_STAGES = {"snapshot": "", "logs": "", "server_image": ""}


def check(values: dict[str, Any]) -> None:
    """Raises PipelineError with one line that names what is allowed, at the first value a stage does not allow."""
    for step, module, name in SETTINGS:
        settings = getattr(importlib.import_module(module), name)
        known = {**_FROM_OTHER_STAGES, **(wiring.arguments(step, values) if step else values)}
        names = [field.name for field in dataclasses.fields(settings) if field.name in known]
        settings(**{name: known[name] for name in names})
