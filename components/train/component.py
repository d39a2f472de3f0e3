"""KFP interface of the train step: one data set to one model, on one worker or many."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input, Metrics, Model, Output

from components.container_images import image


@dsl.component(base_image=image("train"), install_kfp_package=False)
def train(
    dataset: Input[Dataset],
    snapshot: str,
    logs: str,
    model: str,
    weights: str,
    head: str,
    view: str,
    epochs: int,
    fine_tune_epochs: str,
    batch_size: int,
    optimizer: str,
    learning_rate: float,
    augmentation: str,
    balance: str,
    precision: str,
    quantize: str,
    patience: int,
    checkpoint_every: int,
    workers: int,
    accelerator: str,
    gpus: int,
    seed: int,
    backbones: str,
    classifier: Output[Model],
    curves: Output[HTML],
    leaderboard: Output[HTML],
    training_metrics: Output[Metrics],
):
    """Trains `model` (or several, comma-separated: the best goes on) and exports it into `classifier`.

    `backbones` says what the weights that `model` and `weights` name are: with others the cache is no use.
    The workers' CPU, memory and restarts are no inputs: with others the model in KFP's cache is still the same.
    """
    from components.shared import numbers, own_run
    from components.shared.errors import reported
    from components.train.launcher.launch import launch
    from components.train.launcher.resources import Resources
    from components.train.settings import Settings

    arguments = {name: value for name, value in locals().items() if name in Settings.__annotations__}
    outputs = (classifier.path, classifier.uri, curves.path, leaderboard.path)
    with reported():
        run = own_run.parameters()
        settings = Settings(**arguments, max_restarts=int(run.get("train_max_restarts", 3)))
        summary = launch(settings, dataset.path, dataset.uri, *outputs, Resources.of(run))
    print(summary)
    training_metrics.metadata.update(summary.metrics())
    numbers.write(training_metrics)
    classifier.metadata.update(summary.metadata())
