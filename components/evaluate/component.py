"""KFP interface of the evaluate step: is the model good, where is it not, and may it be served."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, ClassificationMetrics, Dataset, Input, Markdown, Metrics, Model, Output

from components.container_images import image


@dsl.component(base_image=image("train"), install_kfp_package=False)
def evaluate(
    dataset: Input[Dataset],
    classifier: Input[Model],
    min_accuracy: float,
    must_beat_guessing: bool,
    max_class_regression: float,
    champion: str,
    coverage: float,
    serve: bool,
    evaluation_report: Output[HTML],
    evaluation_summary: Output[Markdown],
    test_metrics: Output[Metrics],
    classification: Output[ClassificationMetrics],
    predictions: Output[Artifact],
) -> bool:
    """Evaluates on the test split, writes the report; returns whether to serve: the model passed, and `serve` is set.

    Two conditions in the graph would be two more pods in a row.
    """
    from components.artifacts import ledger
    from components.evaluate.evaluator import evaluate_model
    from components.evaluate.settings import Settings
    from components.shared import numbers
    from components.shared.errors import reported

    arguments = {name: value for name, value in locals().items() if name in Settings.__annotations__}
    with reported():
        paths = (dataset.path, classifier.path, evaluation_report.path, evaluation_summary.path, predictions.path)
        result = evaluate_model(*paths, Settings(**arguments), classifier.uri)
        result.leave_verdict(classifier.path, classifier.uri)
        ledger.note(predictions.uri, [dataset.uri, classifier.uri])
    print(result)
    result.log(test_metrics, classification)
    numbers.write(test_metrics, classification)
    return result.passed and serve
