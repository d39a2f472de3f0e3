"""KFP interface of the fetch step: one shard of objects to one shard of images, and that to records.

Both in one task: an iteration of ParallelFor may hold few, or the Workflow outgrows what KFP's API can read.
"""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.container_images import image


@dsl.component(base_image=image("data"), install_kfp_package=False)
def fetch(
    shard: str,
    objects: Input[Dataset],
    image_base: str,
    image_size: int,
    jpeg_quality: int,
    max_failed_fraction: float,
    requests_per_second: float,
    contact: str,
    respect_robots: bool,
    allow_private_addresses: bool,
    images: Output[Dataset],
    records: Output[Dataset],
    index: Output[Artifact],
):
    """Fetches the images of one shard into `images`, and writes them as TFRecords with an `index` of all objects."""
    from components.convert.converter import convert_shard
    from components.fetch.fetcher import fetch_shard
    from components.fetch.settings import Settings
    from components.shared.errors import reported
    from components.shared.storage.storage import published_uri

    arguments = {name: value for name, value in locals().items() if name in Settings.__annotations__}
    with reported():
        fetched = fetch_shard(shard, objects.path, images.path, images.uri, Settings(**arguments))
        print(fetched)
        converted = convert_shard(shard, images.path, records.path, published_uri(records.uri), index.path)
    print(converted)
    images.metadata.update(fetched.metadata())
    records.metadata.update(converted.metadata())
