"""Checks of parameter values before any work: each stage's own Settings refuse what the stage would refuse."""

import dataclasses
import importlib
from typing import Any

SETTINGS = (
    "components.query.selection",
    "components.fetch.fetcher",
    "components.assemble.assembler",
    "components.train.settings",
    "components.evaluate.settings",
    "components.serve.deploy",
)
# What a stage is given by the stage before it; nothing is known of these yet.
_FROM_OTHER_STAGES = {"snapshot": "", "logs": "", "server_image": ""}


def check(values: dict[str, Any]) -> None:
    """Raises PipelineError with one line that names what is allowed, at the first value a stage does not allow."""
    for module in SETTINGS:
        try:
            settings = importlib.import_module(module).Settings
        except ModuleNotFoundError as error:
            if error.name and error.name.startswith("components"):
                raise
            continue  # `submit` needs no stage's libraries: the step itself checks again
        known = {**_FROM_OTHER_STAGES, **values}
        names = [field.name for field in dataclasses.fields(settings) if field.name in known]
        settings(**{name: known[name] for name in names})
