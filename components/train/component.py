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
    max_restarts: int,
    seed: int,
    train_cpu_request: str,
    train_cpu_limit: str,
    train_memory_request: str,
    train_memory_limit: str,
    classifier: Output[Model],
    curves: Output[HTML],
    leaderboard: Output[HTML],
    training_metrics: Output[Metrics],
):
    """Trains `model` (or several, comma-separated: the best goes on) and exports it into `classifier`."""
    from components.shared import numbers
    from components.shared.errors import reported
    from components.train.launcher.launch import launch
    from components.train.launcher.resources import Resources
    from components.train.settings import Settings

    arguments = {name: value for name, value in locals().items() if name in Settings.__annotations__}
    resources = Resources(train_cpu_request, train_cpu_limit, train_memory_request, train_memory_limit)
    outputs = (classifier.path, classifier.uri, curves.path, leaderboard.path)
    with reported():
        summary = launch(Settings(**arguments), dataset.path, dataset.uri, *outputs, resources)
    print(summary)
    training_metrics.metadata.update(summary.metrics())
    numbers.write(training_metrics)
    classifier.metadata.update(summary.metadata())
