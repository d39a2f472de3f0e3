"""KFP interface of the publish step: all shards' suggestions as tables, annotations and a report."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Output

from components.container_images import image


@dsl.component(base_image=image("train"), install_kfp_package=False)
def publish(
    parts: Input[list[Artifact]],
    suggestions: Output[Dataset],
    report: Output[HTML],
    numbers: Output[Metrics],
):
    """Puts the suggestions of all shards together, the unsure ones first."""
    from components.annotate.publish.publisher import publish_parts
    from components.shared.errors import reported

    with reported():
        found = publish_parts([part.path for part in parts], suggestions.path, report.path)
    print(found)
    numbers.metadata.update(found.metadata())
    suggestions.metadata.update(found.metadata())
