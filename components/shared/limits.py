"""Limits of Kubeflow Pipelines, checked before a run meets them."""

import sys

from components.shared import kubernetes
from components.shared.errors import PipelineError

# Of a stock KFP 2.17, whose Workflow takes 67 kB for each shard and some 600 kB for the rest (tests/workflow_size.py):
# above 1 MiB Argo compresses its status, and KFP's API, pages and `submit --wait` see no step after that.
SHOWN_SHARDS = 5
# KFP hands the assemble step all indexes as one argument, about 1 kB each, and Linux takes 128 KiB; compressed, the
# Workflow has to stay below 1 MiB as well.
MAX_SHARDS = 64


def check_shards(shards: int, on_cluster: bool | None = None) -> None:
    """Raises PipelineError if a run on a cluster could not end with so many `shards`; warns if KFP could not show it.

    Args:
        on_cluster: Whether the run is one; None where this process is a step of it, or of a local run.
    """
    if not (kubernetes.in_step() if on_cluster is None else on_cluster):
        return
    advice = "give a shard more pictures: one of 50,000 is no problem"
    if shards > MAX_SHARDS:
        raise PipelineError(
            f"fetch_shards={shards} is too many: at most {MAX_SHARDS}, as Kubeflow Pipelines keeps all steps of a run "
            f"in one object of at most 1 MiB; {advice}"
        )
    if shards > SHOWN_SHARDS:
        print(
            f"warning: fetch_shards={shards}: of a run with more than {SHOWN_SHARDS} Kubeflow Pipelines may show the "
            f"last steps as if they never ended, though they do; {advice}",
            file=sys.stderr,
        )
