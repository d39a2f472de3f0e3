"""KFP interface of the query step for the pipeline that annotates: which objects get a suggestion, in which shard.

An interface of its own, with the parameters that count here: each more would stand in the other pipeline's Workflow
eight times, which may not become larger than KFP can read.
"""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Output

from components.container_images import image


@dsl.component(base_image=image("data"), install_kfp_package=False)
def query(
    take: str,
    source: str,
    table: str,
    images_table: str,
    images_where: str,
    image_base: str,
    image_sizes: str,
    image_size: int,
    keywords: str,
    columns: str,
    label: str,
    label_map: str,
    label_split: str,
    label_corrections: str,
    where: str,
    shards: int,
    project: str,
    maximum_bytes_billed: int,
    max_failed_fraction: float,
    contact: str,
    missing_values: str,
    rights: str,
    state: str,
    objects: Output[Dataset],
    labels: Output[Artifact],
    profile: Output[HTML],
) -> list[str]:
    """Takes the objects without a label, or all, and shards them; returns the shards' names."""
    from components.query.selection import Settings, select
    from components.query.settings import WITHOUT_SPLITS
    from components.shared.errors import reported

    arguments = {name: value for name, value in locals().items() if name in Settings.__annotations__}
    with reported():
        taken = select(Settings(**arguments | WITHOUT_SPLITS), objects.path, labels.path, profile.path, objects.uri)
    print(taken)
    objects.metadata.update(taken.metadata(), source_state=state)
    return list(taken.shards)
