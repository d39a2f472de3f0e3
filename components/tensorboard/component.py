"""KFP interface of the tensorboard step: fixes the log URI and shows the viewer before training starts."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Markdown, Output

from components.container_images import image


@dsl.component(base_image=image("data"), install_kfp_package=False)
def tensorboard(
    dataset: Input[Dataset],
    snapshot: str,
    viewer_image: str,
    secret_store: str,
    logs: Output[Artifact],
    mlpipeline_ui_metadata: Output[Artifact],
    link: Output[Markdown],
) -> str:
    """Returns the URI that trainings on `dataset` write their events to while they run; `link` leads to the curves.

    `dataset` is not read: with it another root, or a rule that was changed, is another place for the logs.
    """
    from components.shared.storage.storage import published_uri
    from components.tensorboard.viewer import write_viewer

    uri = published_uri(logs.uri)
    write_viewer(uri, logs.path, mlpipeline_ui_metadata.path, link.path, viewer_image, secret_store)
    return uri
