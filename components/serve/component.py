"""KFP interface of the serve step: puts a model into service, or takes a bad one back."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Markdown, Model, Output

from components.container_images import image


@dsl.component(base_image=image("data"), install_kfp_package=False)
def serve(
    dataset: Input[Dataset],
    classifier: Input[Model],
    predictions: Input[Artifact],
    serving: str,
    service: str,
    server_image: str,
    replicas: int,
    canary_percent: int,
    run_created: str,
    summary: Output[Markdown],
):
    """Deploys `classifier` as `service` and smoke-tests it with pictures of the test split."""
    from components.serve.deploy import Settings, deploy
    from components.shared.errors import reported
    from components.shared.storage.storage import published_uri

    arguments = {name: value for name, value in locals().items() if name in Settings.__annotations__}
    with reported():
        uri = published_uri(classifier.uri)
        deployment = deploy(
            Settings(**arguments), dataset.path, classifier.path, uri, predictions.path, summary.path
        )
    print(deployment)
