"""The second graph: labels suggested for the objects that nobody has labelled, by a model that `pipeline.py` trained.

python pipeline.py compile --pipeline annotate
"""

from kfp import dsl

from components.annotate.component import annotate as annotate_step
from components.annotate.publish.component import publish as publish_step
from components.fetch.component import fetch as fetch_step
from components.query.probe.component import probe as probe_step
from components.query.unlabelled.component import query as query_step
from components.step_resources import run_config, set_resources

DESCRIPTION = "Labels suggested for a museum's objects by a trained model. docs/annotate.md says how."


@dsl.pipeline(name="museum-annotate", description=DESCRIPTION, pipeline_config=run_config())
def pipeline(
    annotate_model: str = "service:museum-classifier",
    annotate_take: str = "unlabelled",
    annotate_coverage: float = 0.9,
    data_source: str = "sample",
    data_table: str = "",
    data_images_table: str = "",
    data_images_where: str = "",
    data_image_base: str = "",
    data_image_sizes: str = "",
    data_keywords: str = "",
    data_columns: str = "",
    data_where: str = "",
    data_missing_values: str = "auto",
    data_rights: str = "auto",
    data_bigquery_project: str = "",
    data_bigquery_maximum_bytes_billed: int = 10_000_000_000,
    label: str = "",
    label_map: str = "",
    label_split: str = "",
    label_corrections: str = "",
    fetch_shards: int = 4,
    fetch_image_size: int = 256,
    fetch_jpeg_quality: int = 90,
    fetch_max_failed_fraction: float = 0.2,
    fetch_requests_per_second: float = 80.0,
    fetch_contact: str = "",
    fetch_respect_robots: bool = True,
    fetch_allow_private_addresses: bool = False,
    secret_store: str = "museum-classifier-store",
    secret_google: str = "museum-classifier-google",
    secret_flickr: str = "museum-classifier-flickr",
):
    """Labels suggested for a museum's objects by a trained model.

    Args:
        annotate_model: The model: a path or URI, or service:NAME for the one in service.
        annotate_take: unlabelled (those without a value in the label's column) or all.
        annotate_coverage: How often the set of labels that cannot be excluded is to hold the truth.
        data_source: As in pipeline.py, and so are all parameters below.
        data_table: Objects: path, URI (csv, jsonl, parquet), BigQuery table or folder; empty for the source's default.
        data_images_table: Table of images (object_id, original_image_url); empty if the objects carry them.
        data_images_where: SQL condition on the rows of data_images_table, such as: viewtype = 'primary'.
        data_image_base: Prefix of relative image addresses, or a template: {}/full/!{size},{size}/0/default.jpg.
        data_image_sizes: Sizes that the images' host serves, for {size}: 250,330,500,960; empty for any.
        data_keywords: Search words for data_source=flickr, one per class: monkey,wild boar,crow.
        data_columns: Columns that are named otherwise: object_id=id,images.object_id=parent,original_image_url=img.url.
        data_where: SQL condition on the objects, such as: is_public_domain AND object_begin_date > 1800.
        data_missing_values: What counts as no value: auto (n/a, unknown, anonymous, ...), own words; empty for neither.
        data_rights: auto (open images of a collection with a name, all of your own), open, or any.
        data_bigquery_project: Google Cloud project that pays for data_source=bigquery; empty for the credentials' own.
        data_bigquery_maximum_bytes_billed: BigQuery refuses a query that would read more bytes.
        label: The attribute that the model learned; empty for the source's own (culture, folder, keyword).
        label_map: CSV (value,class) that groups values into classes.
        label_split: Separator: only what stands before it counts ("French, Paris" is "French" with ",").
        label_corrections: corrections.csv as the reports save it: what it labels needs no suggestion.
        fetch_shards: Into how many parts the objects are cut; as many steps can run side by side.
        fetch_image_size: Short side of the stored images in pixels: that which the model was trained with.
        fetch_jpeg_quality: Quality of the stored images, 1 to 100.
        fetch_max_failed_fraction: Fail if more than this share of the images cannot be had.
        fetch_requests_per_second: Limit of requests per second to one host, from all shards together; 0 for none.
        fetch_contact: Address or page that the User-Agent names, so that a museum can reach you.
        fetch_respect_robots: Obey robots.txt and noai headers; off only where you have the right.
        fetch_allow_private_addresses: Also read private hosts, files and buckets that you have not named yourself.
        secret_store: Secret with AWS_ACCESS_KEY_ID and the like for the object store; need not exist.
        secret_google: Secret with key.json for BigQuery and Cloud Storage; need not exist.
        secret_flickr: Secret with FLICKR_API_KEY; need not exist.
    """
    secrets = {"store": secret_store, "google": secret_google, "flickr": secret_flickr}
    probed = probe_step(
        source=data_source,
        table=data_table,
        images_table=data_images_table,
        keywords=data_keywords,
        columns=data_columns,
        label_map=label_map,
        label_corrections=label_corrections,
        project=data_bigquery_project,
        model="simple_cnn",  # nothing is trained: no files of a backbone to look at
        weights="none",
    ).set_caching_options(False)
    set_resources(probed, "probe", secrets)

    selected = query_step(
        take=annotate_take,
        source=data_source,
        table=data_table,
        images_table=data_images_table,
        images_where=data_images_where,
        image_base=data_image_base,
        image_sizes=data_image_sizes,
        image_size=fetch_image_size,
        keywords=data_keywords,
        columns=data_columns,
        label=label,
        label_map=label_map,
        label_corrections=label_corrections,
        label_split=label_split,
        where=data_where,
        shards=fetch_shards,
        project=data_bigquery_project,
        maximum_bytes_billed=data_bigquery_maximum_bytes_billed,
        max_failed_fraction=fetch_max_failed_fraction,
        contact=fetch_contact,
        missing_values=data_missing_values,
        rights=data_rights,
        state=probed.outputs["Output"],
    )
    set_resources(selected, "query", secrets)

    with dsl.ParallelFor(selected.outputs["Output"], name="shards", parallelism=8) as shard:
        fetched = fetch_step(
            shard=shard,
            objects=selected.outputs["objects"],
            image_base=data_image_base,
            image_size=fetch_image_size,
            jpeg_quality=fetch_jpeg_quality,
            max_failed_fraction=fetch_max_failed_fraction,
            requests_per_second=fetch_requests_per_second,
            contact=fetch_contact,
            respect_robots=fetch_respect_robots,
            allow_private_addresses=fetch_allow_private_addresses,
        )
        set_resources(fetched, "fetch", secrets)
        suggested = annotate_step(
            shard=shard,
            images=fetched.outputs["images"],
            image_base=data_image_base,
            model=annotate_model,
            coverage=annotate_coverage,
        ).set_caching_options(False)  # a service may serve another model today
        set_resources(suggested, "annotate", secrets)

    published = publish_step(parts=dsl.Collected(suggested.outputs["suggestions"]))
    set_resources(published, "publish", secrets)
