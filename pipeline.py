"""From a museum collection to a served image classifier: the graph, and the commands that run it.

    python pipeline.py --help
"""

import sys

from kfp import dsl

from cli.cluster import fit
from components.assemble.component import assemble as assemble_step
from components.convert.component import convert as convert_step
from components.evaluate.component import evaluate as evaluate_step
from components.fetch.component import fetch as fetch_step
from components.images import image
from components.query.component import query as query_step
from components.query.probe.component import probe as probe_step
from components.serve.component import serve as serve_step
from components.tensorboard.component import tensorboard as tensorboard_step
from components.train.component import train as train_step


@dsl.pipeline(name="museum-classifier", description="From a museum collection to a served image classifier")
def pipeline(
    source: str = "sample",
    table: str = "",
    images: str = "",
    image_base: str = "",
    keywords: str = "",
    columns: str = "",
    label: str = "",
    label_map: str = "",
    label_split: str = "",
    where: str = "",
    group: str = "",
    slices: str = "period,department,classification",
    min_images_per_class: int = 10,
    max_images_per_class: int = 0,
    max_classes: int = 0,
    validation_fraction: float = 0.25,
    test_fraction: float = 0.15,
    folds: int = 0,
    fold: int = 0,
    shards: int = 4,
    seed: int = 1,
    project: str = "",
    maximum_bytes_billed: int = 10_000_000_000,
    image_size: int = 256,
    jpeg_quality: int = 90,
    max_failed_fraction: float = 0.2,
    requests_per_second: float = 80.0,
    contact: str = "",
    respect_robots: bool = True,
    allow_private_addresses: bool = False,
    conflicts: str = "exclude",
    duplicate_distance: int = 8,
    min_examples_per_class: int = 1,
    min_eval_examples_per_class: int = 1,
    max_imbalance: float = 100.0,
    max_enlarged_fraction: float = 0.5,
    expected_classes: str = "",
    previous_dataset: str = "",
    max_drift: float = 0.25,
    model: str = "simple_cnn",
    weights: str = "none",
    epochs: int = 25,
    fine_tune_epochs: int = 0,
    batch_size: int = 32,
    optimizer: str = "adamw",
    learning_rate: float = 0.002,
    augmentation: str = "light",
    balance: str = "none",
    precision: str = "auto",
    quantize: str = "none",
    patience: int = 0,
    checkpoint_every: int = 200,
    workers: int = 1,
    accelerator: str = "nvidia.com/gpu",
    gpus: int = 0,
    max_restarts: int = 3,
    min_accuracy: float = 0.5,
    max_class_regression: float = 0.1,
    champion: str = "",
    serve: bool = True,
    serving: str = "deployment",
    service: str = "museum-classifier",
    replicas: int = 1,
    canary_percent: int = 0,
    train_cpu_request: str = "500m",
    train_cpu_limit: str = "4",
    train_memory_request: str = "2Gi",
    train_memory_limit: str = "6Gi",
    store_secret: str = "museum-classifier-store",
    google_secret: str = "museum-classifier-google",
    flickr_secret: str = "museum-classifier-flickr",
):
    """From a museum collection to a served image classifier.

    Args:
        source: Where the collection is: sample, table, bigquery, met, flickr or folder.
        table: Objects: path or URI (csv, jsonl, parquet), BigQuery table, or folder; empty for the source's default.
        images: Table of the objects' pictures (object_id, original_image_url); empty if the objects carry them.
        image_base: Prefix of picture addresses that are relative.
        keywords: Search words for source=flickr, one a class: monkey,wild boar,crow.
        columns: Columns that are named otherwise: original_image_url=url,object_id=id.
        label: The attribute to learn: culture, period, ...; empty for the source's own (culture, folder, keyword).
        label_map: CSV (value,class) that groups values into classes; others are left out.
        label_split: Separator: only what stands before it counts ("French, Paris" is "French" with ",").
        where: SQL condition on the objects, such as: is_public_domain AND object_begin_date > 1800.
        group: Column whose values never stand on both sides of a split; empty for the artist, or the object.
        slices: Metadata columns by which the evaluation is broken down.
        min_images_per_class: Classes with fewer objects are left out.
        max_images_per_class: At most so many objects a class; 0 for all.
        max_classes: Only the largest so many classes; 0 for all.
        validation_fraction: Share of the objects used to choose the model.
        test_fraction: Share of the objects used to judge the model.
        folds: Number of cross-validation folds; 0 for one fixed split.
        fold: Which fold is the test split, from 0.
        shards: Into how many parts the collection is cut; as many fetch steps can run side by side.
        seed: Makes split, sample and training repeatable.
        project: Google Cloud project that pays for source=bigquery; empty for the credentials' own.
        maximum_bytes_billed: BigQuery refuses a query that would read more bytes.
        image_size: Short side of the stored pictures in pixels; models see 7/8 of it: 256 for 224, 342 for 299.
        jpeg_quality: Quality of the stored pictures, 1 to 100.
        max_failed_fraction: Fail if more than this share of the pictures cannot be had.
        requests_per_second: At most so many requests a second to one host, from all shards together; 0 for no limit.
        contact: Address or page that the User-Agent names, so that a museum can reach you.
        respect_robots: Obey robots.txt and noai headers; off only where you have the right.
        allow_private_addresses: Read from private hosts, files and buckets that neither table nor image_base names.
        conflicts: Equal pictures with different labels: exclude, keep or fail.
        duplicate_distance: Compare pictures closely whose perceptual hashes differ in at most so many bits; -1 for off.
        min_examples_per_class: Fail if a class has fewer examples in the training split.
        min_eval_examples_per_class: Warn if a class has fewer examples in the validation or test split.
        max_imbalance: Warn if the largest class has more than so many times the examples of the smallest.
        max_enlarged_fraction: Warn if more than this share of the pictures is smaller than image_size.
        expected_classes: Fail on any other class: names, comma-separated, or a labels.txt; empty for any.
        previous_dataset: dataset.json of an earlier run, to compare the class shares with.
        max_drift: Warn if the class shares moved by more than this population stability index.
        model: simple_cnn, mobilenet_v2, inception_v3, ...; several, comma-separated, are compared and the best goes on.
        weights: none (from scratch), imagenet, or a URI of weights.
        epochs: Passes over the training split.
        fine_tune_epochs: Further passes with the upper part of a pre-trained model unfrozen.
        batch_size: Examples a step, over all workers.
        optimizer: adamw or sgd.
        learning_rate: Peak learning rate.
        augmentation: none, light or strong.
        balance: What to do about rare classes: none, weights or sampling.
        precision: auto, float32, bfloat16, float16, or onednn_bf16 (float32 with bfloat16 products, on CPUs that can).
        quantize: none or int8: the form of the tflite model.
        patience: Stop after so many epochs without a better validation accuracy; 0 for never.
        checkpoint_every: Steps between checkpoints.
        workers: Training workers; more than 1 train together, on a cluster in as many pods, locally as processes.
        accelerator: Kubernetes resource name of the accelerator.
        gpus: Accelerators of each worker; 0 for CPU.
        max_restarts: How often lost workers are restarted from the last checkpoint.
        min_accuracy: The model is served only if its test accuracy is at least this.
        max_class_regression: ... and no class is worse than the champion's by more than this.
        champion: Model to beat: a path or URI, service:NAME for the one in service, or empty for none.
        serve: Deploy the model if it passed.
        serving: deployment (Deployment and Service) or kserve (InferenceService).
        service: Name of the service.
        replicas: Server pods.
        canary_percent: Share of the traffic for the new model at first; 0 for all at once.
        train_cpu_request: On a cluster: CPUs that each training worker is sure of, such as 4.
        train_cpu_limit: ... and may use at most.
        train_memory_request: On a cluster: memory that each training worker is sure of, such as 8Gi.
        train_memory_limit: ... and may use at most.
        store_secret: On a cluster: Secret with AWS_ACCESS_KEY_ID and the like for the object store; need not exist.
        google_secret: On a cluster: Secret with key.json for BigQuery and Cloud Storage; need not exist.
        flickr_secret: On a cluster: Secret with FLICKR_API_KEY; need not exist.
    """
    secrets = {"store": store_secret, "google": google_secret, "flickr": flickr_secret}
    probed = probe_step(
        source=source,
        table=table,
        images=images,
        keywords=keywords,
        columns=columns,
        label_map=label_map,
        project=project,
    ).set_caching_options(False)  # it looks whether query may be taken from the cache
    fit(probed, "probe", secrets)

    selected = query_step(
        source=source,
        table=table,
        images=images,
        image_base=image_base,
        keywords=keywords,
        columns=columns,
        label=label,
        label_map=label_map,
        label_split=label_split,
        where=where,
        group=group,
        slices=slices,
        min_images_per_class=min_images_per_class,
        max_images_per_class=max_images_per_class,
        max_classes=max_classes,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        folds=folds,
        fold=fold,
        shards=shards,
        seed=seed,
        project=project,
        maximum_bytes_billed=maximum_bytes_billed,
        max_failed_fraction=max_failed_fraction,
        contact=contact,
        expected_classes=expected_classes,
        state=probed.output,
    )
    fit(selected, "query", secrets)

    with dsl.ParallelFor(selected.outputs["Output"], parallelism=8) as shard:
        fetched = fetch_step(
            shard=shard,
            objects=selected.outputs["objects"],
            image_base=image_base,
            image_size=image_size,
            jpeg_quality=jpeg_quality,
            max_failed_fraction=max_failed_fraction,
            requests_per_second=requests_per_second,
            contact=contact,
            respect_robots=respect_robots,
            allow_private_addresses=allow_private_addresses,
        )
        fit(fetched, "fetch", secrets)
        converted = convert_step(shard=shard, images=fetched.outputs["images"])
        fit(converted, "convert", secrets)

    assembled = assemble_step(
        indexes=dsl.Collected(converted.outputs["index"]),
        objects=selected.outputs["objects"],
        labels=selected.outputs["labels"],
        conflicts=conflicts,
        duplicate_distance=duplicate_distance,
        min_examples_per_class=min_examples_per_class,
        min_eval_examples_per_class=min_eval_examples_per_class,
        max_imbalance=max_imbalance,
        max_failed_fraction=max_failed_fraction,
        max_enlarged_fraction=max_enlarged_fraction,
        expected_classes=expected_classes,
        previous_dataset=previous_dataset,
        max_drift=max_drift,
        image_size=image_size,
        jpeg_quality=jpeg_quality,
        respect_robots=respect_robots,
    )
    fit(assembled, "assemble", secrets)

    viewer = tensorboard_step(
        snapshot=assembled.outputs["Output"],
        viewer_image=image("data"),
        store_secret=store_secret,
    )
    fit(viewer, "tensorboard", secrets)

    trained = train_step(
        dataset=assembled.outputs["dataset"],
        snapshot=assembled.outputs["Output"],
        logs=viewer.outputs["Output"],
        model=model,
        weights=weights,
        epochs=epochs,
        fine_tune_epochs=fine_tune_epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        learning_rate=learning_rate,
        augmentation=augmentation,
        balance=balance,
        precision=precision,
        quantize=quantize,
        patience=patience,
        checkpoint_every=checkpoint_every,
        workers=workers,
        accelerator=accelerator,
        gpus=gpus,
        max_restarts=max_restarts,
        seed=seed,
        train_cpu_request=train_cpu_request,
        train_cpu_limit=train_cpu_limit,
        train_memory_request=train_memory_request,
        train_memory_limit=train_memory_limit,
    )
    fit(trained, "train", secrets)

    evaluated = evaluate_step(
        dataset=assembled.outputs["dataset"],
        classifier=trained.outputs["classifier"],
        min_accuracy=min_accuracy,
        max_class_regression=max_class_regression,
        champion=champion,
    ).set_caching_options(False)  # the champion may be another one today
    fit(evaluated, "evaluate", secrets)

    with dsl.If(serve == True, name="serving-wanted"):  # noqa: E712  a KFP condition, evaluated at run time
        with dsl.If(evaluated.outputs["Output"] == True, name="model-passed"):  # noqa: E712
            served = serve_step(
                dataset=assembled.outputs["dataset"],
                classifier=trained.outputs["classifier"],
                predictions=evaluated.outputs["predictions"],
                serving=serving,
                service=service,
                server_image=image("serve"),
                replicas=replicas,
                canary_percent=canary_percent,
            ).set_caching_options(False)
            fit(served, "serve", secrets)


if __name__ == "__main__":
    from cli.main import main

    sys.exit(main())
