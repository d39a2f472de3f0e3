"""What a training works with, from its first step to the export: all of the worker takes it, nothing changes it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from components.artifacts.dataset import DatasetInfo
from components.shared.geometry import input_size
from components.train import models, zoo
from components.train.settings import Settings
from components.train.worker import devices, input_pipeline, weights
from components.train.worker.batches import Share
from components.train.worker.foreign import Foreign
from components.train.worker.input_pipeline import Examples, Order
from components.train.worker.interruption import StopRequest


@dataclass(frozen=True)
class Session:
    """One worker's part of a training.

    Attributes:
        settings: the parameters, with one model name.
        info: the data set as `dataset.json` describes it.
        size: side in pixels of the images that the network takes.
        strategy: the devices, of all workers, that train together.
        train, validation: the examples of the two splits.
        order: which training examples make up which batch.
        network: the classifier. Its weights are what training changes; everything else of a session stays.
        builder_options: what the file of pre-trained weights says of the network (see weights.options).
        weights_hash: sha256 of that file, or of a foreign backbone's files; empty for random weights.
        reading: what a regression's head reads of the frozen network; None where the head is trained by steps.
        view: what the network is shown of an image that is not augmented: its "center", or the "whole".
        entry: what the zoo, or a backbone's own files, say of the network.
        foreign: a backbone that is no entry of the zoo.
        checkpoints: URI of the folder of this training's checkpoints.
        folder: local folder of this attempt, where copies of record files lie.
        stop: whether SIGTERM came.
    """

    settings: Settings
    info: DatasetInfo
    size: int
    strategy: tf.distribute.Strategy
    train: Examples
    validation: Examples
    order: Order
    network: models.Network
    builder_options: Mapping[str, Any]
    weights_hash: str
    checkpoints: str
    folder: str
    stop: StopRequest
    entry: models.Known
    foreign: Foreign | None = None
    reading: models.Reading | None = None
    view: str = "center"

    @property
    def chief(self) -> bool:
        """Whether this worker writes checkpoints, events and the model."""
        return devices.is_chief(self.strategy)

    @property
    def classes(self) -> int:
        """The number of labels."""
        return len(self.info.labels)

    @property
    def share(self) -> Share:
        """The part of every batch that this worker's replicas take."""
        own = max(self.settings.gpus, 1)
        return Share(devices.worker_index(self.strategy) * own, own, self.settings.replicas)

    def build(self) -> models.Network:
        """Another network of the same shape, with random weights, under the strategy and precision now in force."""
        return _build(self.settings, self.info, self.size, self.builder_options, self.reading, self.foreign)

    def reading_as(self, reading: models.Reading, view: str) -> "Session":
        """The session with a network that has the same pre-trained part and is read as `reading` says."""
        changed = dataclasses.replace(self, reading=reading, view=view)
        with self.strategy.scope(), devices.per_replica_variables(self.strategy):
            network = changed.build()
        before, after = (models.pre_trained_part(each.base) for each in (self.network, network))
        after.set_weights(before.get_weights())
        return dataclasses.replace(changed, network=network)

    def announce(self) -> None:
        """Prints what is trained, on what, and notes on parameters that have less effect than one may think."""
        settings, native = self.settings, self.entry.card.input_size
        print(
            f"{settings.model}: {self.network.model.count_params():,} parameters, {len(self.train)} training and "
            f"{len(self.validation)} validation pictures at {self.size} px, "
            f"{self.order.steps} steps per epoch of {settings.batch_size} pictures",
            flush=True,
        )
        if settings.pre_trained and native > self.size:
            print(
                f"note: {settings.model} was trained at {native} px: these pictures of {self.size} px are enlarged to "
                f"{models.base_size(self.entry, self.size, True)} in the model; image_size={-(-native * 8 // 7)} "
                "would show it more detail",
                flush=True,
            )


def open_session(settings: Settings, info: DatasetInfo, checkpoints: str, folder: str, stop: StopRequest) -> Session:
    """Joins the other workers, reads the data into the local `folder` and builds the network with its first weights.

    Raises:
        PipelineError: a mistake of the user, such as images that are too small for the model or weights of another.
        Preempted: SIGTERM came meanwhile; nothing is lost.
    """
    size = input_size(info.stored_size)
    entry = models.known(settings.model)
    models.check_size(settings.model, size, settings.pre_trained, entry)
    foreign = None if isinstance(entry, zoo.Architecture) else Foreign.open(entry, f"{folder}/backbone")
    strategy = devices.prepare(settings, stop)
    train, validation = (
        input_pipeline.load(info, split, f"{folder}/{split}", stop.check) for split in ("train", "validation")
    )
    path = None if foreign else weights.fetch(settings.weights, settings.model, f"{folder}/weights")
    options = {} if foreign else weights.options(path, settings.model)
    reading = models.Reading(stages=bool(entry.card.stages)) if settings.probes else None
    with strategy.scope(), devices.per_replica_variables(strategy):
        network = _build(settings, info, size, options, reading, foreign)
        if foreign:
            foreign.load(models.pre_trained_part(network.base))
        elif path:
            weights.load(network.base, path, settings.model)
    return Session(
        settings=settings,
        info=info,
        size=size,
        strategy=strategy,
        train=train,
        validation=validation,
        order=Order(train.labels, settings.batch_size, settings.seed, settings.balance == "sampling"),
        network=network,
        builder_options=options,
        weights_hash=foreign.digest if foreign else weights.digest(path),
        checkpoints=checkpoints,
        folder=folder,
        stop=stop,
        entry=entry,
        foreign=foreign,
        reading=reading,
    )


def _build(
    settings: Settings,
    info: DatasetInfo,
    size: int,
    options: Mapping[str, Any],
    reading: models.Reading | None,
    foreign: Foreign | None,
) -> models.Network:
    return models.build(settings.model, size, len(info.labels), options, settings.pre_trained, reading, foreign)
