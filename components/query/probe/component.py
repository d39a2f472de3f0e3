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
    project: str,
    state: Output[Artifact],
) -> str:
    """Checks the run's parameters, and asks the source for its state.

    Query's result is taken from the cache only while that and the root are the same, and nothing there is missing.
    """
    from components.artifacts import ledger
    from components.checks import check_own_run
    from components.query.state import pipeline_root, source_state
    from components.shared.errors import reported

    arguments = {name: value for name, value in locals().items() if isinstance(value, str)}
    with reported():
        check_own_run()
    found = source_state(arguments, pipeline_root(state.uri), ledger.losses(state.uri))
    print(f"state of the source: {found}")
    with open(state.path, "w") as file:
        file.write(found)
    return found
