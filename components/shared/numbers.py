"""The file of an artifact whose content is its metadata: metrics, a confusion matrix."""

import json
from typing import Any, Mapping


def write(path: str, metadata: Mapping[str, Any]) -> None:
    """Writes `metadata` to `path` as JSON.

    KFP shows them without any file; but its link to the artifact then leads nowhere, and kfp.local runs a finished step
    again whose artifacts have no file.
    """
    with open(path, "w", encoding="utf-8") as file:
        json.dump(metadata, file, indent=1)
