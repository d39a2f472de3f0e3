"""The training step and the evaluation of one phase, for one CPU, one GPU, several GPUs, or several workers.

The step is our own tf.function over `strategy.run`, because Keras 3's `fit` fails under MultiWorkerMirroredStrategy
(keras-team/keras#20585). Gradients are summed over the replicas in one exchange, together with the step's metrics.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from components.train.settings import Settings
from components.train.worker.devices import local_value, per_replica_variables
from components.train.worker.interruption import StopRequest

CLIP_NORM = 1.0
LABEL_SMOOTHING = 0.1
WEIGHT_DECAY = {"adamw": 0.01, "sgd": 1e-4}
AVERAGE_DECAY = 0.999
WARM_UP_SHARE = 0.05

# What a step returns, in this order. `stop` is above 0 if any worker was asked to stop.
STEP_VALUES = ("loss", "correct", "count", "stop", "learning_rate", "gradient_norm")


class TrainingStep:
    """One phase's step: trains `model`'s trainable variables in `steps` steps up to `learning_rate`.

    Evaluation and export use a moving average of the weights (Polyak, 1992), short at first and longer with the step.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: keras.Model,
        settings: Settings,
        learning_rate: float,
        steps: int,
        rates: Mapping[int, float] | None = None,
    ) -> None:
        """`rates` multiply the learning rate of a variable, by its id; 1 where there is none."""
        self.strategy, self.model = strategy, model
        self._seeds = [v for v in model.variables if not v.dtype.startswith("float")]
        pre_trained = any(not layer.trainable for layer in model._flatten_layers())
        statistics = [] if pre_trained else [v for v in model.non_trainable_variables if v.dtype.startswith("float")]
        self._changing = [*model.trainable_variables, *statistics]
        with strategy.scope():
            factors = [(rates or {}).get(id(v), 1.0) for v in model.trainable_variables]
            self._optimizer = _optimizer(settings, cosine(learning_rate, steps), factors)
            self._optimizer.build(model.trainable_variables)
            with per_replica_variables(strategy):
                self._averages = [tf.Variable(v.value, trainable=False) for v in self._changing]
        self._trained = len(model.trainable_variables)
        self._step = tf.function(self._distributed_step, autograph=False)
        self._predict = tf.function(self._distributed_predict, autograph=False)
        self._synchronise = tf.function(lambda: strategy.run(self._average_statistics), autograph=False)
        self.policy = keras.config.dtype_policy().name

    def run(self, element: tuple[Any, ...], stop: bool) -> tf.Tensor:
        """One step on a global batch; returns STEP_VALUES, the same on every worker. `stop` asks all to stop."""
        return self._step(element, tf.constant(float(stop)))

    def logits(
        self, batches: Iterator[tuple[Any, ...]], steps: int, examples: int, stop: StopRequest
    ) -> np.ndarray | None:  # fmt: skip
        """[examples, classes] float32: the averaged model's answers on `steps` global batches, on every worker.

        None, on every worker, as soon as one of them was asked to stop.
        """
        if self.strategy.num_replicas_in_sync > 1 and len(self._changing) > self._trained:
            self._synchronise()
        parts = []
        for _ in range(steps):
            answers = self._predict(next(batches)[0], tf.constant(float(stop.requested))).numpy()
            if answers[:, -1].any():
                return None
            parts.append(answers[:, :-1])
        return np.concatenate(parts)[:examples]

    def state(self) -> dict[str, np.ndarray]:
        """Everything that training changes, by name: what `restore` needs to go on from here."""
        return {
            f"{kind}/{i}": local_value(self.strategy, variable)
            for kind, group in self._groups().items()
            for i, variable in enumerate(group)
        }

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Sets what `state` returned."""
        for kind, group in self._groups().items():
            for i, variable in enumerate(group):
                variable.assign(arrays[f"{kind}/{i}"])

    def averaged_weights(self, model: keras.Model) -> list[np.ndarray]:
        """The weights of `model` (which shares this step's variables), averaged where they were trained."""
        averages = {id(v): average for v, average in zip(self._changing, self._averages)}
        return [local_value(self.strategy, averages.get(id(v), v)) for v in model.weights]

    def graph(self, element: tuple[Any, ...]) -> tf.Graph:
        """The graph of the training step for batches like `element`."""
        return self._step.get_concrete_function(element, tf.constant(0.0)).graph

    def _groups(self) -> dict[str, list[Any]]:
        return {
            "model": [*self._changing, *self._seeds],
            "optimizer": self._optimizer.variables,
            "average": self._averages,
        }

    def _distributed_step(self, element: tuple[Any, ...], stop: tf.Tensor) -> tf.Tensor:
        values = self.strategy.run(self._replica_step, args=(*element, stop))
        return self.strategy.experimental_local_results(values)[0]

    def _replica_step(self, inputs, targets, weights, stop) -> tf.Tensor:
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            logits = tf.cast(self.model(_pixels(inputs), training=True), tf.float32)
            loss = tf.reduce_sum(weights * _cross_entropy(targets, logits))
            scaled = self._optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [v.value for v in variables])
        counted = tf.cast(weights > 0, tf.float32)
        correct = tf.reduce_sum(counted * tf.cast(tf.argmax(logits, 1) == tf.argmax(targets, 1), tf.float32))
        own = tf.stack([loss, correct, tf.reduce_sum(counted), stop])
        if self.strategy.num_replicas_in_sync > 1:
            *gradients, own = _sum_over_replicas([*gradients, own])
        rate = tf.cast(self._optimizer.learning_rate, tf.float32)
        norm = tf.linalg.global_norm(gradients) / tf.cast(self._optimizer.scale_loss(1.0), tf.float32)
        self._optimizer.apply(gradients, variables)
        self._update_averages()
        return tf.concat([own, [rate, norm]], axis=0)

    def _update_averages(self) -> None:
        step = tf.cast(self._optimizer.iterations.value, tf.float32)
        keep = tf.minimum(AVERAGE_DECAY, (1 + step) / (10 + step))
        for average, variable in zip(self._averages, self._changing):
            average.assign_sub((1 - keep) * (average - variable.value))

    def _average_statistics(self) -> None:
        context = tf.distribute.get_replica_context()
        statistics = self._averages[self._trained :]
        means = context.all_reduce(tf.distribute.ReduceOp.MEAN, [tf.convert_to_tensor(v) for v in statistics])
        for variable, mean in zip(statistics, means):
            variable.assign(mean)

    def _distributed_predict(self, inputs: Any, stop: tf.Tensor) -> tf.Tensor:
        return self.strategy.gather(self.strategy.run(self._replica_predict, args=(inputs, stop)), axis=0)

    def _replica_predict(self, inputs: tf.Tensor, stop: tf.Tensor) -> tf.Tensor:
        values = {id(v): tf.convert_to_tensor(average) for v, average in zip(self._changing, self._averages)}
        trained = [values[id(v)] for v in self.model.trainable_variables]
        others = [values.get(id(v), v.value) for v in self.model.non_trainable_variables]
        logits, _ = self.model.stateless_call(trained, others, _pixels(inputs), training=False)
        return with_column(logits, stop)


def with_column(values: tf.Tensor, stop: tf.Tensor) -> tf.Tensor:
    """`values` [n, m] as float32 and `stop` in a column of its own: so it reaches the other workers by one exchange."""
    return tf.concat([tf.cast(values, tf.float32), tf.fill([tf.shape(values)[0], 1], stop)], axis=1)


def cosine(peak: float, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Rises to `peak` over the first 5 % of `steps`, then falls to 0 along a cosine (arXiv:1608.03983)."""
    warm_up = max(1, round(steps * WARM_UP_SHARE))
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=peak * 0.1,
        decay_steps=max(steps - warm_up, 1),
        warmup_target=peak,
        warmup_steps=warm_up,
    )


class _LayerWise:
    """Has an optimizer multiply its learning rate, for its n-th variable with the n-th of `factors`."""

    factors: Sequence[float]

    def update_step(self, gradient, variable, learning_rate):
        factor = self.factors[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * factor)


class LayerWiseAdamW(_LayerWise, keras.optimizers.AdamW):
    pass


class LayerWiseSGD(_LayerWise, keras.optimizers.SGD):
    pass


def _optimizer(settings: Settings, rate: Any, factors: Sequence[float]) -> keras.optimizers.Optimizer:
    decay = WEIGHT_DECAY[settings.optimizer]
    if settings.optimizer == "adamw":
        optimizer = LayerWiseAdamW(rate, weight_decay=decay, global_clipnorm=CLIP_NORM)
    else:
        optimizer = LayerWiseSGD(rate, momentum=0.9, nesterov=True, weight_decay=decay, global_clipnorm=CLIP_NORM)
    optimizer.factors = factors
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    # The step has summed the gradients already: clipping must see the sum, and a second exchange would double it.
    optimizer._all_reduce_sum_gradients = list
    if keras.config.dtype_policy().name == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def _pixels(inputs: tf.Tensor) -> tf.Tensor:
    return tf.cast(inputs, tf.float32)


def _cross_entropy(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    classes = tf.cast(tf.shape(targets)[1], tf.float32)
    smooth = targets * (1 - LABEL_SMOOTHING) + LABEL_SMOOTHING / classes
    return tf.nn.softmax_cross_entropy_with_logits(smooth, logits)


def _sum_over_replicas(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """Sums each tensor over the replicas: all of them flat in one exchange, which many small ones would dominate."""
    flat = tf.concat([tf.reshape(tf.cast(tensor, tf.float32), [-1]) for tensor in tensors], axis=0)
    total = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, flat)
    parts = tf.split(total, [tensor.shape.num_elements() for tensor in tensors])
    return [tf.cast(tf.reshape(part, tensor.shape), tensor.dtype) for part, tensor in zip(parts, tensors)]
