"""KFP interface of the query step: which objects, which label, which split, which shard."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Output

from components.container_images import image


@dsl.component(base_image=image("data"), install_kfp_package=False)
def query(
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
    group: str,
    slices: str,
    min_images_per_class: int,
    max_images_per_class: int,
    max_classes: int,
    validation_fraction: float,
    test_fraction: float,
    split_given: str,
    split_leaks: str,
    folds: int,
    fold: int,
    shards: int,
    seed: int,
    project: str,
    maximum_bytes_billed: int,
    max_failed_fraction: float,
    contact: str,
    expected_classes: str,
    missing_values: str,
    rights: str,
    state: str,
    objects: Output[Dataset],
    labels: Output[Artifact],
    profile: Output[HTML],
) -> list[str]:
    """Selects, labels, splits and shards the objects; returns the shards' names (`00000-of-00004`, ...)."""
    from components.query.selection import Settings, select
    from components.shared.errors import reported

    arguments = {name: value for name, value in locals().items() if name in Settings.__annotations__}
    with reported():
        selection = select(Settings(**arguments), objects.path, labels.path, profile.path, objects.uri)
    print(selection)
    objects.metadata.update(selection.metadata(), source_state=state)
    return list(selection.shards)
