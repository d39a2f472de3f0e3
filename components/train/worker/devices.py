"""What a worker computes on: CPU or GPUs, alone or in a cluster, at which precision."""

import json
import os
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from components.shared.cores import available_cores
from components.shared.errors import PipelineError
from components.train.settings import Settings
from components.train.worker import rendezvous
from components.train.worker.interruption import StopRequest

_LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")


def cpus() -> int:
    """Cores that this worker may use: those it sees, its container's quota, shared with other workers of this host."""
    return max(1, available_cores() // _workers_here())


def prepare(settings: Settings, stop: StopRequest | None = None) -> tf.distribute.Strategy:
    """Sets threads, visible GPUs, precision and seed, and joins the cluster of TF_CONFIG. Call it before other TF work.

    Raises:
        PipelineError: GPUs were asked for and there are not enough.
        Preempted: `stop` was requested while other workers were waited for.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if settings.gpus > len(gpus):
        raise PipelineError(
            f"gpus={settings.gpus} was asked for and this machine has {len(gpus)}: "
            "set gpus=0 for the CPU, or check the accelerator's node pool and driver"
        )
    tf.config.set_visible_devices(gpus[: settings.gpus], "GPU")
    for gpu in gpus[: settings.gpus]:
        tf.config.experimental.set_memory_growth(gpu, True)
    _limit_threads(cpus())
    strategy = _strategy(settings, stop or StopRequest())
    keras.utils.set_random_seed(settings.seed)
    keras.mixed_precision.set_dtype_policy(policy(settings.precision, gpus[: settings.gpus]))
    return strategy


def _limit_threads(count: int) -> None:
    if tf.config.threading.get_intra_op_parallelism_threads() == count:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(count)
    except RuntimeError:  # TensorFlow already works in this process (a notebook, a test): its threads stay as they are
        print("TensorFlow is already running: its number of threads stays as it is", flush=True)


def policy(precision: str, gpus: list) -> str:
    """Keras dtype policy for `precision`; `auto` is float32 on a CPU, bfloat16 or float16 on a GPU by its age.

    With onednn_bf16 everything is float32, and oneDNN multiplies in bfloat16 where the CPU can (see training.run).
    """
    if precision == "auto":
        capabilities = [
            tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus
        ]
        oldest = min(capabilities, default=(0, 0))
        precision = "bfloat16" if oldest >= (8, 0) else "float16" if oldest >= (7, 0) else "float32"
    return "float32" if precision in ("float32", "onednn_bf16") else f"mixed_{precision}"


def agreed(strategy: tf.distribute.Strategy, value: float) -> float:
    """The mean of every worker's `value`, the same on all of them."""
    if strategy.num_replicas_in_sync == 1:
        return value

    def own() -> tf.Tensor:
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, tf.constant(value))

    return float(strategy.experimental_local_results(strategy.run(tf.function(own)))[0])


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this worker writes checkpoints, events and the model."""
    return worker_index(strategy) == 0


def worker_index(strategy: tf.distribute.Strategy) -> int:
    """This worker's number in the cluster, from 0."""
    resolver = strategy.cluster_resolver
    return resolver.task_id or 0 if resolver else 0


def per_replica_variables(strategy: tf.distribute.Strategy):
    """Scope in which variables that are not trained (batch statistics) are each replica's own.

    Mirrored ones would cost an exchange per layer and step; the replicas' values are averaged before an evaluation.
    """

    def creator(create, **arguments):
        if strategy.num_replicas_in_sync > 1 and arguments.get("trainable") is False:
            arguments["synchronization"] = tf.VariableSynchronization.ON_READ
            arguments["aggregation"] = tf.VariableAggregation.ONLY_FIRST_REPLICA
        return create(**arguments)

    return tf.variable_creator_scope(creator)


def local_value(strategy: tf.distribute.Strategy, variable: Any) -> np.ndarray:
    """What this worker's first replica has in `variable` (of Keras or of TensorFlow)."""
    value = getattr(variable, "value", variable) if isinstance(variable, keras.Variable) else variable
    return strategy.experimental_local_results(value)[0].numpy()


def _strategy(settings: Settings, stop: StopRequest) -> tf.distribute.Strategy:
    if settings.workers > 1:
        addresses = _cluster().get("worker", [])
        if len(addresses) != settings.workers:
            raise PipelineError(
                f"workers={settings.workers} but TF_CONFIG lists {len(addresses)}: start workers by the launcher"
            )
        rendezvous.meet(addresses, _config()["task"]["index"], stop)
        return tf.distribute.MultiWorkerMirroredStrategy()
    if settings.gpus > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.OneDeviceStrategy("/gpu:0") if settings.gpus else tf.distribute.get_strategy()


def _cluster() -> dict[str, list[str]]:
    return _config().get("cluster", {})


def _config() -> dict:
    return json.loads(os.environ.get("TF_CONFIG", "{}"))


def _workers_here() -> int:
    return max(1, sum(address.rsplit(":", 1)[0] in _LOCAL_HOSTS for address in _cluster().get("worker", [])))
