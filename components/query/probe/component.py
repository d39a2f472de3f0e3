"""KFP interface of the probe, a run's first step: can its parameters be, and has the source changed meanwhile?"""

from kfp import dsl
from kfp.dsl import Artifact, Output

from components.container_images import image


@dsl.component(base_image=image("data"), install_kfp_package=False)
def probe(
    source: str,
    table: str,
    images_table: str,
    keywords: str,
    columns: str,
    label_map: str,
    label_corrections: str,
    project: str,
    model: str,
    weights: str,
    state: Output[Artifact],
    backbones: dsl.OutputPath(str),  # type: ignore[valid-type]
) -> str:
    """Checks the run's parameters, and asks the source for its state, and the store for that of the model's weights.

    Query's result is taken from the cache only while the first and the root are the same, and nothing there is missing;
    train's only while the second is the same.
    """
    from components.artifacts import ledger
    from components.checks import check_own_run
    from components.query.state import pipeline_root, source_state
    from components.shared.errors import reported
    from components.train.backbones import states

    names = ("source", "table", "images_table", "keywords", "columns", "label_map", "project")
    arguments = {name: value for name, value in locals().items() if name in names}
    with reported():
        check_own_run()
    found = source_state(arguments, pipeline_root(state.uri), ledger.losses(state.uri))
    print(f"state of the source: {found}")
    for path, text in ((state.path, found), (backbones, states(model, weights))):
        with open(path, "w") as file:
            file.write(text)
    return found
