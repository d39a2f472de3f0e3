"""KFP interface of the assemble step: all indexes to one checked data set."""

from typing import List

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Output

from components.images import image


@dsl.component(base_image=image("data"), install_kfp_package=False)
def assemble(
    indexes: Input[List[Artifact]],
    objects: Input[Dataset],
    labels: Input[Artifact],
    conflicts: str,
    duplicate_distance: int,
    min_examples_per_class: int,
    max_imbalance: float,
    max_failed_fraction: float,
    previous_dataset: str,
    dataset: Output[Dataset],
    report: Output[HTML],
    metrics: Output[Metrics],
) -> str:
    """Checks the whole set, writes `dataset.json` and the data report; returns the snapshot hash."""
    from components.assemble.assembler import Settings, assemble_dataset
    from components.shared.errors import reported

    arguments = {name: value for name, value in locals().items() if name in Settings.__annotations__}
    paths = [index.path for index in indexes]
    with reported():
        summary = assemble_dataset(paths, objects.path, labels.path, dataset.path, report.path, Settings(**arguments))
    print(summary)
    metrics.metadata.update(summary.metrics())
    return summary.snapshot
