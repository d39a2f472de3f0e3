"""From a museum collection to a served image classifier: the graph, and the commands that run it.

python pipeline.py --help
"""

import sys

if __name__ == "__main__":  # before kfp: with another Python than the environment's this is one line, no traceback
    from cli.environment import require

    require()

from kfp import dsl

from components.assemble.component import assemble as assemble_step
from components.container_images import image
from components.evaluate.component import evaluate as evaluate_step
from components.fetch.component import fetch as fetch_step
from components.query.component import query as query_step
from components.query.probe.component import probe as probe_step
from components.serve.component import serve as serve_step
from components.step_resources import run_config, set_resources
from components.tensorboard.component import tensorboard as tensorboard_step
from components.train.component import train as train_step

DESCRIPTION = (
    "From a museum collection to a served image classifier. docs/parameters.md says what every parameter means."
)


@dsl.pipeline(name="museum-classifier", description=DESCRIPTION, pipeline_config=run_config())
def pipeline(
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
    label_min_images_per_class: int = 10,
    label_max_images_per_class: int = 0,
    label_max_classes: int = 0,
    split_group: str = "",
    split_validation_fraction: float = 0.25,
    split_test_fraction: float = 0.15,
    split_given: str = "auto",
    split_leaks: str = "report",
    split_folds: int = 0,
    split_fold: int = 0,
    fetch_shards: int = 4,
    fetch_image_size: int = 256,
    fetch_jpeg_quality: int = 90,
    fetch_max_failed_fraction: float = 0.2,
    fetch_requests_per_second: float = 80.0,
    fetch_contact: str = "",
    fetch_respect_robots: bool = True,
    fetch_allow_private_addresses: bool = False,
    check_conflicts: str = "exclude",
    check_duplicate_distance: int = 8,
    check_min_examples_per_class: int = 1,
    check_min_eval_examples_per_class: int = 1,
    check_max_imbalance: float = 100.0,
    check_max_enlarged_fraction: float = 0.5,
    check_expected_classes: str = "",
    check_previous_dataset: str = "",
    check_max_drift: float = 0.25,
    train_model: str = "simple_cnn",
    train_weights: str = "none",
    train_epochs: int = 25,
    train_head: str = "regression",
    train_view: str = "auto",
    train_fine_tune_epochs: str = "auto",
    train_batch_size: int = 32,
    train_optimizer: str = "adamw",
    train_learning_rate: float = 0.002,
    train_augmentation: str = "light",
    train_balance: str = "none",
    train_precision: str = "auto",
    train_quantize: str = "none",
    train_patience: int = 0,
    train_checkpoint_every: int = 200,
    train_workers: int = 1,
    train_accelerator: str = "nvidia.com/gpu",
    train_gpus: int = 0,
    train_max_restarts: int = 3,
    train_queue: str = "",
    train_cpu_request: str = "500m",
    train_cpu_limit: str = "4",
    train_memory_request: str = "2Gi",
    train_memory_limit: str = "6Gi",
    eval_slices: str = "period,department,classification",
    eval_min_accuracy: float = 0.5,
    eval_must_beat_guessing: bool = True,
    eval_max_class_regression: float = 0.1,
    eval_champion: str = "",
    eval_coverage: float = 0.9,
    serve_enabled: bool = True,
    serve_kind: str = "deployment",
    serve_name: str = "museum-classifier",
    serve_replicas: int = 1,
    serve_canary_percent: int = 0,
    secret_store: str = "museum-classifier-store",
    secret_google: str = "museum-classifier-google",
    secret_flickr: str = "museum-classifier-flickr",
    secret_signing: str = "museum-classifier-signing",
    seed: int = 1,
):
    """From a museum collection to a served image classifier.

    Args:
        data_source: sample, table, bigquery, met, flickr, folder, iiif, webdataset, or a collection: nga, my.toml.
        data_table: Objects: path, URI (csv, jsonl, parquet), BigQuery table or folder; empty for the source's own.
        data_images_table: Table of images (object_id, original_image_url); empty if the objects carry them.
        data_images_where: SQL condition on the rows of data_images_table, such as: viewtype = 'primary'.
        data_image_base: Prefix of relative image addresses, or a template: {}/full/!{size},{size}/0/default.jpg.
        data_image_sizes: Sizes that the images' host serves, for {size}: 250,330,500,960; empty for any.
        data_keywords: Search words for data_source=flickr, one per class: monkey,wild boar,crow.
        data_columns: Columns that are named otherwise: object_id=id,images.object_id=parent,original_image_url=img.url.
        data_where: SQL condition on the objects, such as: is_public_domain AND object_begin_date > 1800.
        data_missing_values: What counts as no value: auto (n/a, unknown, anonymous, ...), own words; empty for neither.
        data_rights: auto (open images of a collection with a name, all of your own), open, or any.
        data_bigquery_project: Google Cloud project that pays for BigQuery; empty for the credentials' own.
        data_bigquery_maximum_bytes_billed: BigQuery refuses a query that would read more bytes.
        label: The attribute to learn: culture, period, ...; empty for the source's own.
        label_map: CSV (value,class) that groups values into classes; others are left out.
        label_split: Separator: only what stands before it counts ("French, Paris" is "French" with ",").
        label_corrections: corrections.csv as the reports save it: what a person says that objects are.
        label_min_images_per_class: Classes with fewer objects are left out.
        label_max_images_per_class: At most so many objects per class; 0 for all.
        label_max_classes: Only the largest so many classes; 0 for all.
        split_group: Column whose values are never in two splits; empty for the artist, or the object.
        split_validation_fraction: Share of the objects used to choose the model.
        split_test_fraction: Share of the objects used to judge the model.
        split_given: What a column split says: auto (train, val, test, ...), 0=train,1=validation,2=test, or none.
        split_leaks: Groups in two given splits: report, or remove (from train).
        split_folds: Number of cross-validation folds; 0 for one fixed split.
        split_fold: Which fold is the test split, from 0.
        fetch_shards: Into how many parts the collection is cut; as many fetch steps run side by side.
        fetch_image_size: Short side of the stored images in pixels; models see 7/8: 256 for 224, 342 for 299.
        fetch_jpeg_quality: Quality of the stored images, 1 to 100.
        fetch_max_failed_fraction: Fail if more than this share of the images cannot be had.
        fetch_requests_per_second: Limit of requests per second to one host, from all shards together; 0 for none.
        fetch_contact: Address or page that the User-Agent names, so that a museum can reach you.
        fetch_respect_robots: Obey robots.txt and noai headers; off only where you have the right.
        fetch_allow_private_addresses: Also read private hosts, files and buckets that you have not named yourself.
        check_conflicts: What becomes of equal images with different labels: exclude, keep or fail.
        check_duplicate_distance: Compare images whose perceptual hashes differ in at most so many bits; -1 for off.
        check_min_examples_per_class: Fail if a class has fewer examples in the training split.
        check_min_eval_examples_per_class: Warn if a class has fewer examples in the validation or test split.
        check_max_imbalance: Warn if the largest class has more than so many times the smallest's examples.
        check_max_enlarged_fraction: Warn if more than this share of the images is smaller than fetch_image_size.
        check_expected_classes: Fail on any other class: names, comma-separated, or a labels.txt; empty for any.
        check_previous_dataset: dataset.json of an earlier run, to compare the class shares with.
        check_max_drift: Warn if the class shares moved by more than this population stability index.
        train_model: A name of the zoo, keras:NAME, hub:URI, saved:URI; several, with commas, are compared.
        train_weights: none (from scratch), imagenet, or a URI of weights; hub: and saved: bring their own.
        train_epochs: Passes over the training split, from scratch or of a head that is made in steps.
        train_head: How a pre-trained model's head is made: regression (to convergence) or steps.
        train_view: What a pre-trained model sees: auto, center, whole, or mirrored (mean with mirror image).
        train_fine_tune_epochs: Passes with the upper part of a pre-trained model unfrozen; auto tries if it may pay.
        train_batch_size: Examples per step, over all workers.
        train_optimizer: adamw or sgd.
        train_learning_rate: Peak learning rate.
        train_augmentation: none, light or strong.
        train_balance: What to do about rare classes: none, weights or sampling.
        train_precision: auto, float32, bfloat16, float16, or onednn_bf16 (bfloat16 products on CPUs that can).
        train_quantize: none or int8: the form of the tflite model.
        train_patience: Stop after so many epochs without a better validation accuracy; 0 for never.
        train_checkpoint_every: Steps between checkpoints.
        train_workers: Training workers; more than 1 train together, on a cluster in as many pods.
        train_accelerator: Kubernetes resource name of the accelerator.
        train_gpus: Accelerators of each worker; 0 for CPU.
        train_max_restarts: How often lost workers are restarted from the last checkpoint.
        train_queue: LocalQueue of Kueue in which the workers wait for room; empty for none.
        train_cpu_request: CPU request of each training worker's pod, such as 4.
        train_cpu_limit: CPU limit of each training worker's pod.
        train_memory_request: Memory request of each training worker's pod, such as 8Gi.
        train_memory_limit: Memory limit of each training worker's pod.
        eval_slices: Metadata columns by which the evaluation is broken down.
        eval_min_accuracy: The model is served only if its test accuracy is at least this.
        eval_must_beat_guessing: The model is served only if it is better than guessing, by more than chance.
        eval_max_class_regression: The model is served only if no class is worse than the champion's by more.
        eval_champion: Model to beat: a path or URI, service:NAME for the one in service; empty for none.
        eval_coverage: How often the set of labels that cannot be excluded holds the truth.
        serve_enabled: Deploy the model if it passed.
        serve_kind: deployment (Deployment and Service) or kserve (InferenceService).
        serve_name: Name of the service.
        serve_replicas: Server pods.
        serve_canary_percent: Share of the traffic for the new model at first; 0 for all at once.
        secret_store: Secret with AWS_ACCESS_KEY_ID and the like for the object store; need not exist.
        secret_google: Secret with key.json for BigQuery and Cloud Storage; need not exist.
        secret_flickr: Secret with FLICKR_API_KEY; need not exist.
        secret_signing: Secret with MODEL_SIGNING_KEY and MODEL_PUBLIC_KEY; need not exist.
        seed: Makes split, sample and training repeatable.
    """
    secrets = {"store": secret_store, "google": secret_google, "flickr": secret_flickr, "signing": secret_signing}
    probed = probe_step(
        source=data_source,
        table=data_table,
        images_table=data_images_table,
        keywords=data_keywords,
        columns=data_columns,
        label_map=label_map,
        label_corrections=label_corrections,
        project=data_bigquery_project,
        model=train_model,
        weights=train_weights,
    ).set_caching_options(False)  # it looks whether query, and train, may be taken from the cache
    set_resources(probed, "probe", secrets)

    selected = query_step(
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
        label_split=label_split,
        label_corrections=label_corrections,
        where=data_where,
        group=split_group,
        slices=eval_slices,
        min_images_per_class=label_min_images_per_class,
        max_images_per_class=label_max_images_per_class,
        max_classes=label_max_classes,
        validation_fraction=split_validation_fraction,
        test_fraction=split_test_fraction,
        split_given=split_given,
        split_leaks=split_leaks,
        folds=split_folds,
        fold=split_fold,
        shards=fetch_shards,
        seed=seed,
        project=data_bigquery_project,
        maximum_bytes_billed=data_bigquery_maximum_bytes_billed,
        max_failed_fraction=fetch_max_failed_fraction,
        contact=fetch_contact,
        expected_classes=check_expected_classes,
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

    assembled = assemble_step(
        indexes=dsl.Collected(fetched.outputs["index"]),
        objects=selected.outputs["objects"],
        labels=selected.outputs["labels"],
        conflicts=check_conflicts,
        duplicate_distance=check_duplicate_distance,
        min_examples_per_class=check_min_examples_per_class,
        min_eval_examples_per_class=check_min_eval_examples_per_class,
        max_imbalance=check_max_imbalance,
        max_failed_fraction=fetch_max_failed_fraction,
        max_enlarged_fraction=check_max_enlarged_fraction,
        expected_classes=check_expected_classes,
        previous_dataset=check_previous_dataset,
        max_drift=check_max_drift,
    )
    set_resources(assembled, "assemble", secrets)

    viewer = tensorboard_step(
        dataset=assembled.outputs["dataset"],
        snapshot=assembled.outputs["Output"],
        viewer_image=image("data"),
        secret_store=secret_store,
    )
    set_resources(viewer, "tensorboard", secrets)

    trained = train_step(
        dataset=assembled.outputs["dataset"],
        snapshot=assembled.outputs["Output"],
        logs=viewer.outputs["Output"],
        model=train_model,
        weights=train_weights,
        head=train_head,
        view=train_view,
        epochs=train_epochs,
        fine_tune_epochs=train_fine_tune_epochs,
        batch_size=train_batch_size,
        optimizer=train_optimizer,
        learning_rate=train_learning_rate,
        augmentation=train_augmentation,
        balance=train_balance,
        precision=train_precision,
        quantize=train_quantize,
        patience=train_patience,
        checkpoint_every=train_checkpoint_every,
        workers=train_workers,
        accelerator=train_accelerator,
        gpus=train_gpus,
        seed=seed,
        backbones=probed.outputs["backbones"],
    )  # train_max_restarts, _queue, _cpu_... and _memory_... are read from the run: components/shared/own_run.py
    set_resources(trained, "train", secrets)

    evaluated = evaluate_step(
        dataset=assembled.outputs["dataset"],
        classifier=trained.outputs["classifier"],
        min_accuracy=eval_min_accuracy,
        must_beat_guessing=eval_must_beat_guessing,
        max_class_regression=eval_max_class_regression,
        champion=eval_champion,
        coverage=eval_coverage,
        serve=serve_enabled,
    ).set_caching_options(False)  # the champion may be another one today
    set_resources(evaluated, "evaluate", secrets)

    with dsl.If(evaluated.outputs["Output"] == True, name="passed"):  # noqa: E712  evaluated at run time
        served = serve_step(
            dataset=assembled.outputs["dataset"],
            predictions=evaluated.outputs["predictions"],
            kind=serve_kind,
            name=serve_name,
            server_image=image("serve"),
            replicas=serve_replicas,
            canary_percent=serve_canary_percent,
            run_created=dsl.PIPELINE_JOB_CREATE_TIME_UTC_PLACEHOLDER,
        ).set_caching_options(False)
        set_resources(served, "serve", secrets)


if __name__ == "__main__":
    from cli.main import main

    sys.exit(main())
