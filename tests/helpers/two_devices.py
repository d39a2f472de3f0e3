"""python -m tests.helpers.two_devices REPLICAS POLICY: steps on that many logical CPU devices; prints what came out.

A process of its own: how many devices the CPU is cut into must be said before TensorFlow works.
"""

import json
import sys

import numpy as np
import tensorflow as tf

REPLICAS, POLICY = int(sys.argv[1]), sys.argv[2]
BATCH, SIDE, CLASSES, STEPS = 16, 32, 4, 8

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * REPLICAS
)


def main() -> None:
    """Trains simple_cnn on stripes and prints losses, gradient norms, answers and the number of right ones."""
    import keras

    from components.train import models
    from components.train.worker import batches
    from components.train.worker.devices import per_replica_variables
    from components.train.worker.interruption import StopRequest
    from components.train.worker.step import STEP_VALUES, TrainingStep
    from tests.helpers.stripes import stripes
    from tests.helpers.train_settings import settings

    names = [f"/cpu:{number}" for number in range(REPLICAS)]
    strategy = tf.distribute.MirroredStrategy(names) if REPLICAS > 1 else tf.distribute.get_strategy()
    keras.utils.set_random_seed(1)
    keras.config.set_dtype_policy(POLICY)
    with strategy.scope(), per_replica_variables(strategy):
        network = models.build("simple_cnn", SIDE, CLASSES)
    step = TrainingStep(strategy, network.model, settings(), 0.003, STEPS)
    images = np.stack([stripes(number % CLASSES, number, SIDE, SIDE) for number in range(BATCH)])
    # Unequal weights: replicas must sum their losses, not average them.
    weights = np.linspace(0.5, 1.5, BATCH, dtype=np.float32) / BATCH
    whole = (images, np.eye(CLASSES, dtype=np.float32)[np.arange(BATCH) % CLASSES], weights)
    parts = tf.data.Dataset.from_tensor_slices(whole).batch(BATCH // REPLICAS, drop_remainder=True).repeat()
    elements = iter(batches.distributed(strategy, lambda: parts))
    steps = [dict(zip(STEP_VALUES, step.run(next(elements), False).numpy().tolist())) for _ in range(STEPS)]
    answers = step.logits(iter(batches.distributed(strategy, lambda: parts)), 1, BATCH, StopRequest())
    state = step.state()
    step.restore(state)
    assert all(np.array_equal(state[name], array) for name, array in step.state().items())
    kept = {"loss": [step["loss"] for step in steps], "norm": [step["gradient_norm"] for step in steps]}
    print(json.dumps({**kept, "counted": steps[-1]["count"], "answers": answers.tolist()}))


main()
