"""A peer of benchmarks.train's part "step", in a process of its own: TensorFlow reads some options only at its start.

    python -m benchmarks.train_step PEER MODEL     PEER: ours, bfloat16, onednn_bf16, fit, fit-xla, frozen, features

Prints a line when it is ready, and for every line that it reads one with images per second, by wall clock and by
processor time of one core.
"""

import os
import sys
import time
from collections.abc import Callable

import numpy as np

SIDE, BATCH, CLASSES = 224, 32, 8
STEPS = 4
FEATURE_STEPS, EXAMPLES = 400, 2000


def main() -> None:
    """Answers every line of the standard input with a measurement."""
    peer, model = sys.argv[1:3]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if peer == "onednn_bf16":
        os.environ["ONEDNN_DEFAULT_FPMATH_MODE"] = "BF16"
    images, work = _PEERS[peer](peer, model)
    work()
    print("ready", flush=True)
    for _ in sys.stdin:
        wall, processor = time.perf_counter(), time.process_time()
        work()
        print(images / (time.perf_counter() - wall), images / (time.process_time() - processor), flush=True)


def settings(model: str, **changes: object):
    """Settings of a short training from scratch."""
    from components.train.settings import Settings

    values = {
        "snapshot": "", "logs": "", "model": model, "weights": "none", "epochs": 1, "head": "steps", "view": "auto",
        "fine_tune_epochs": "0", "batch_size": BATCH, "optimizer": "adamw", "learning_rate": 1e-3,
        "augmentation": "light", "balance": "none", "precision": "float32", "quantize": "none", "patience": 0,
        "checkpoint_every": 1000, "workers": 1, "accelerator": "", "gpus": 0, "max_restarts": 0, "seed": 1,
    }  # fmt: skip
    return Settings(**{**values, **changes})


def _batch() -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(1).integers(0, 256, [BATCH, SIDE, SIDE, 3]).astype(np.uint8)
    return images, np.eye(CLASSES, dtype=np.float32)[np.arange(BATCH) % CLASSES]


def _ours(peer: str, name: str) -> tuple[int, Callable[[], object]]:
    """Our step on a ready batch; of the frozen peer with only the head to train."""
    import keras
    import tensorflow as tf

    from components.train import models
    from components.train.worker import devices
    from components.train.worker.step import TrainingStep

    chosen = settings(name, precision="float32" if peer in ("ours", "frozen") else peer)
    strategy = devices.prepare(chosen)
    network = models.build(name, SIDE, CLASSES)
    network.base.trainable = peer != "frozen"
    step = TrainingStep(strategy, network.model, chosen, 1e-3, 1000)
    images, targets = _batch()
    element = (tf.constant(images), tf.constant(targets), tf.fill([BATCH], 1 / BATCH))
    assert keras.config.dtype_policy().name == devices.policy(chosen.precision, [])
    return STEPS * BATCH, lambda: [step.run(element, False).numpy() for _ in range(STEPS)]


def _features(peer: str, name: str) -> tuple[int, Callable[[], object]]:
    """The epochs after the first of a frozen network without augmentation: batches of features to the head."""
    from components.train import models
    from components.train.worker import batches, devices, input_pipeline
    from components.train.worker.step import TrainingStep

    chosen = settings(name, augmentation="none")
    strategy = devices.prepare(chosen)
    network = models.build(name, SIDE, CLASSES)
    labels = (np.arange(EXAMPLES) % CLASSES).astype(np.int32)
    values = np.random.default_rng(1).normal(size=[EXAMPLES, network.base.output_shape[1]]).astype(np.float32)
    order = input_pipeline.Order(labels, BATCH, seed=1)
    share = batches.Share(0, 1, 1)
    data = batches.distributed(strategy, lambda: batches.features(values, order, share, labels, CLASSES))
    step, elements = TrainingStep(strategy, network.head, chosen, 1e-3, 1000), iter(data)
    return FEATURE_STEPS * BATCH, lambda: [step.run(next(elements), False).numpy() for _ in range(FEATURE_STEPS)]


def _fit(peer: str, name: str) -> tuple[int, Callable[[], object]]:
    """Model.fit of plain Keras with the same network, optimizer, loss and moving average."""
    import keras
    import tensorflow as tf

    from components.train import models
    from components.train.worker import devices

    devices.prepare(settings(name))
    model = models.build(name, SIDE, CLASSES).model
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=0.01, global_clipnorm=1.0, use_ema=True)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile="auto" if peer == "fit-xla" else False)
    data = tf.data.Dataset.from_tensors(_batch()).repeat()
    return STEPS * BATCH, lambda: model.fit(data, steps_per_epoch=STEPS, verbose=0)


_PEERS = {
    "ours": _ours, "bfloat16": _ours, "onednn_bf16": _ours, "frozen": _ours, "fit": _fit, "fit-xla": _fit,
    "features": _features,
}  # fmt: skip

if __name__ == "__main__":
    main()
