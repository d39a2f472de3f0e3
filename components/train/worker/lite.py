"""Networks as LiteRT models: what the server runs, and on a CPU the fastest way to the features of a frozen network."""

import queue
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def convert(
    model: keras.Model,
    finish: Callable[[Any], Any] = tf.identity,
    representative: Iterator[np.ndarray] | None = None,
) -> bytes:
    """The model as tflite: pixels [1, M, M, 3] 0..255 (uint8) to `finish` of its outputs, float32, in that order.

    With `representative` images ([1, M, M, 3] float32) weights and activations are int8.
    """
    size = int(model.input_shape[1])
    kind = tf.float32 if representative else tf.uint8

    # As constants: the converter leaves the variables of a Keras 3 model as empty resources.
    trained = [tf.constant(v.numpy()) for v in model.trainable_variables]
    others = [tf.constant(v.numpy()) for v in model.non_trainable_variables]

    @tf.function(input_signature=[tf.TensorSpec([1, size, size, 3], kind, name="pixels")], autograph=False)
    def serve(pixels: tf.Tensor) -> Any:
        values, _ = model.stateless_call(trained, others, tf.cast(pixels, tf.float32), training=False)
        return finish(values)

    converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()])
    if representative:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([picture] for picture in representative)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
    return converter.convert()


class Runner:
    """The tflite model `content`, one interpreter per thread: an image each is faster than all threads for one.

    `output` says which of its outputs is wanted.
    """

    def __init__(self, content: bytes, threads: int, output: int = 0) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._output = output
        self._pool = ThreadPoolExecutor(threads)
        self._idle: queue.SimpleQueue[Interpreter] = queue.SimpleQueue()
        for _ in range(threads):
            interpreter = Interpreter(model_content=content, num_threads=1)
            interpreter.allocate_tensors()
            self._idle.put(interpreter)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """[n, width] float32 for `images` [n, M, M, 3] uint8."""
        return np.concatenate(list(self._pool.map(self._one, images)))

    def _one(self, image: np.ndarray) -> np.ndarray:
        interpreter = self._idle.get()
        try:
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
            interpreter.invoke()  # without Python's lock
            return interpreter.get_tensor(interpreter.get_output_details()[self._output]["index"]).copy()
        finally:
            self._idle.put(interpreter)
