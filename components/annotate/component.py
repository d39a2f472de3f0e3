"""KFP interface of the annotate step: a label, or none, for every image of one shard."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.container_images import image


@dsl.component(base_image=image("train"), install_kfp_package=False)
def annotate(
    shard: str,
    images: Input[Dataset],
    image_base: str,
    model: str,
    coverage: float,
    suggestions: Output[Artifact],
):
    """Suggests labels for the images of one shard, and notes which could not be had."""
    from components.annotate.settings import Settings
    from components.annotate.suggest import Annotator
    from components.shared.errors import reported

    with reported():
        found = Annotator(Settings(model, coverage), image_base).annotate(shard, images.path, suggestions.path)
    print(found)
    suggestions.metadata.update(found.metadata())
