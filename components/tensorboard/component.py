"""KFP interface of the tensorboard step: fixes the log URI and shows the viewer before training starts."""

from kfp import dsl
from kfp.dsl import Artifact, Output

from components.container_images import image


@dsl.component(base_image=image("data"), install_kfp_package=False)
def tensorboard(
    snapshot: str,
    viewer_image: str,
    store_secret: str,
    logs: Output[Artifact],
    mlpipeline_ui_metadata: Output[Artifact],
) -> str:
    """Returns the URI that trainings on the data set `snapshot` write their events to while they run."""
    from components.shared.storage.storage import published_uri
    from components.tensorboard.viewer import write_viewer

    uri = published_uri(logs.uri)
    write_viewer(uri, logs.path, mlpipeline_ui_metadata.path, viewer_image, store_secret)
    return uri
