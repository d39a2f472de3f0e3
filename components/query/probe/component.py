"""KFP interface of the probe: has the source changed since it was last read?"""

from kfp import dsl

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
) -> str:
    """Asks the source for its state: query's result is taken from the cache only while that is the same."""
    from components.query.selection import Settings
    from components.query.state import source_state

    arguments = {name: value for name, value in locals().items() if name in Settings.__annotations__}
    state = source_state(arguments)
    print(f"state of the source: {state}")
    return state
