"""KFP interface of the assemble step: all indexes to one checked data set."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Output

from components.container_images import image


@dsl.component(base_image=image("data"), install_kfp_package=False)
def assemble(
    indexes: Input[list[Artifact]],
    objects: Input[Dataset],
    labels: Input[Artifact],
    conflicts: str,
    duplicate_distance: int,
    min_examples_per_class: int,
    min_eval_examples_per_class: int,
    max_imbalance: float,
    max_failed_fraction: float,
    max_enlarged_fraction: float,
    expected_classes: str,
    previous_dataset: str,
    max_drift: float,
    dataset: Output[Dataset],
    data_report: Output[HTML],
    data_metrics: Output[Metrics],
) -> str:
    """Checks the whole set, writes `dataset.json` and the data report; returns the snapshot hash.

    A rule that fails does not fail this step, or KFP would lose the report: the train step stops at its start.
    """
    from components.artifacts import ledger
    from components.assemble.assembler import assemble_dataset
    from components.assemble.settings import Settings
    from components.shared import numbers
    from components.shared.errors import reported

    arguments = {name: value for name, value in locals().items() if name in Settings.__annotations__}
    paths = [index.path for index in indexes], objects.path, labels.path, dataset.path, data_report.path
    with reported():
        summary = assemble_dataset(*paths, Settings(**arguments))
        ledger.note(dataset.uri, [objects.uri, labels.uri, *(index.uri for index in indexes), *summary.record_files])
    print(summary)
    data_metrics.metadata.update(summary.metrics())
    numbers.write(data_metrics)
    dataset.metadata.update(summary.metadata())
    return summary.snapshot
