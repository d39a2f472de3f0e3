"""What Kubeflow Pipelines itself cannot do, told before it is met."""

from components.shared import kubernetes
from components.shared.errors import PipelineError

# KFP hands the assemble step its inputs as one argument, about a kilobyte for each shard's index; Linux takes 128 KiB.
MAX_SHARDS = 100


def check_shards(shards: int, on_cluster: bool | None = None) -> None:
    """Raises PipelineError if a run on a cluster (`on_cluster`; by default: if this is one) could not join `shards`."""
    if on_cluster is None:
        on_cluster = kubernetes.in_step()
    if on_cluster and shards > MAX_SHARDS:
        raise PipelineError(
            f"shards={shards} is too many for Kubeflow Pipelines, which passes all their indexes in one argument: "
            f"at most {MAX_SHARDS}"
        )
