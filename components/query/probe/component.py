"""KFP interface of the probe: has the source changed since it was last read?"""

from kfp import dsl
from kfp.dsl import Artifact, Output

from components.container_images import image


@dsl.component(base_image=image("data"), install_kfp_package=False)
def probe(
    source: str,
    table: str,
    images: str,
    keywords: str,
    columns: str,
    label_map: str,
    project: str,
    state: Output[Artifact],
) -> str:
    """Asks the source for its state: query's result is taken from the cache only while it and the root are the same."""
    from components.query.selection import Settings
    from components.query.state import pipeline_root, source_state

    arguments = {name: value for name, value in locals().items() if name in Settings.__annotations__}
    found = source_state(arguments, pipeline_root(state.uri))
    print(f"state of the source: {found}")
    with open(state.path, "w") as file:
        file.write(found)
    return found
