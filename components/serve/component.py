"""KFP interface of the serve step: puts a model into service, or takes a bad one back."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Markdown, Output

from components.container_images import image


@dsl.component(base_image=image("data"), install_kfp_package=False)
def serve(
    dataset: Input[Dataset],
    predictions: Input[Artifact],
    kind: str,
    name: str,
    server_image: str,
    replicas: int,
    canary_percent: int,
    run_created: str,
    deployment: Output[Markdown],
):
    """Deploys the classifier that `predictions` are of as `name`, and smoke-tests it with images of the test split.

    It is no input: Kubeflow would download it whole, and the evaluation has written where it is and its digest.
    """
    from components.serve.deploy import deploy
    from components.serve.deployment import Settings
    from components.shared.errors import reported

    arguments = {key: value for key, value in locals().items() if key in Settings.__annotations__}
    with reported():
        print(deploy(Settings(**arguments), dataset.path, predictions.path, deployment.path))
