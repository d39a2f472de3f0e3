"""KFP interface of the fetch step: one shard of objects to one shard of images."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Output

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
):
    """Downloads, checks and shrinks the pictures of one shard into `images-<shard>.tar` and `fetch-log.parquet`."""
    from components.fetch.fetcher import Settings, fetch_shard
    from components.shared.errors import reported

    arguments = {name: value for name, value in locals().items() if name in Settings.__annotations__}
    with reported():
        summary = fetch_shard(shard, objects.path, images.path, images.uri, Settings(**arguments))
    print(summary)
    images.metadata.update(summary.metadata())
