"""KFP interface of the convert step: one image shard to one record shard per split, and an index."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from components.container_images import image


@dsl.component(base_image=image("data"), install_kfp_package=False)
def convert(
    shard: str,
    images: Input[Dataset],
    records: Output[Dataset],
    index: Output[Artifact],
):
    """Writes `<split>-<shard>.tfrecord` into `records` and a row for every object of the shard into `index`."""
    from components.convert.converter import convert_shard
    from components.shared.errors import reported
    from components.shared.storage.storage import published_uri

    with reported():
        summary = convert_shard(shard, images.path, records.path, published_uri(records.uri), index.path)
    print(summary)
    records.metadata.update(summary.metadata())
