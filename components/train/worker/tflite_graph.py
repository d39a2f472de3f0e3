"""A float LiteRT model as TensorFlow operations, so that it becomes a part of every form of the classifier."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from components.train.backbones import BackboneError

_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
_KINDS = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
_NUMBERS = {"FLOAT32": np.float32, "FLOAT16": np.float16, "INT32": np.int32, "INT64": np.int64, "BOOL": np.bool_}


def read(path: str, name: str, output: str) -> tuple[Callable[[tf.Tensor], tf.Tensor], bool]:
    """A function of images to the one output (or that called `output`), and whether it takes only one image at a time.

    Raises BackboneError: it is damaged, has integer weights, several inputs or outputs, or an operation not known here.
    """
    try:
        model = flatbuffer_utils.read_model(path)
        graph = model.subgraphs[0]
    except Exception as error:  # flatbuffers checks nothing: an index beyond the file is a struct.error or IndexError
        raise BackboneError(f"model={name}: it cannot be read ({' '.join(str(error).split())[:200]})") from error
    codes = [max(each.builtinCode, each.deprecatedBuiltinCode) for each in model.operatorCodes]
    kinds = [_NAMES[codes[each.opcodeIndex]] for each in graph.operators]
    if unknown := sorted(set(kinds) - set(_OPERATIONS)):
        raise BackboneError(
            f"model={name}: the operations {', '.join(unknown)} of its graph are not known here (integer weights are "
            "not either): give the float SavedModel that it was converted from"
        )
    names = [graph.tensors[each].name.decode() for each in graph.outputs]
    if (output and output not in names) or (not output and len(names) != 1):
        raise BackboneError(
            f"model={name}: it has the outputs {', '.join(names)}; write the vector's as output into its card"
        )
    if len(graph.inputs) != 1:
        raise BackboneError(f"model={name}: it takes {len(graph.inputs)} inputs; one is expected")
    constants = {number: _constant(model, each, name) for number, each in enumerate(graph.tensors)}
    shape = graph.tensors[graph.inputs[0]]
    single = shape.shapeSignature is None or shape.shapeSignature[0] != -1

    def run(images: tf.Tensor) -> tf.Tensor:
        values: dict[int, Any] = {number: each for number, each in constants.items() if each is not None}
        values[-1] = None
        kind = _KINDS[shape.type]
        values[graph.inputs[0]] = images if kind == "FLOAT32" else tf.cast(images, kind.lower())
        for operator, kind in zip(graph.operators, kinds):
            options = vars(operator.builtinOptions) if operator.builtinOptions is not None else {}
            inputs = [values[each] for each in operator.inputs]
            found = _OPERATIONS[kind](inputs, options)
            found = found if isinstance(found, (list, tuple)) else [found]
            values.update(zip(operator.outputs, found))
        return values[graph.outputs[names.index(output) if output else 0]]

    return run, single


def _constant(model: Any, tensor: Any, name: str) -> np.ndarray | None:
    data = model.buffers[tensor.buffer].data
    if data is None or not len(data):
        return None
    kind = _KINDS[tensor.type]
    if kind not in _NUMBERS:
        raise BackboneError(f"model={name}: it has {kind} weights; give a float model")
    return np.frombuffer(bytes(data), _NUMBERS[kind]).reshape(tensor.shape if tensor.shape is not None else [])


def _activated(x, options: Mapping):
    kind = options.get("fusedActivationFunction", 0)
    functions = {0: tf.identity, 1: tf.nn.relu, 2: lambda y: tf.clip_by_value(y, -1.0, 1.0), 3: tf.nn.relu6, 4: tf.tanh}
    return functions[kind](x) if kind else x


def _padding(options: Mapping) -> str:
    return "SAME" if options["padding"] == schema.Padding.SAME else "VALID"


def _two(function: Callable) -> Callable:
    return lambda inputs, options: _activated(function(*inputs), options)


def _conv(inputs, options):
    strides = [options["strideH"], options["strideW"]]
    dilations = [options.get("dilationHFactor", 1), options.get("dilationWFactor", 1)]
    kernel = tf.transpose(inputs[1], [1, 2, 3, 0])
    y = tf.nn.conv2d(inputs[0], kernel, strides, _padding(options), dilations=dilations)
    return _activated(y if inputs[2] is None else y + inputs[2], options)


def _depthwise(inputs, options):
    kernel = np.asarray(inputs[1])[0]
    channels = inputs[0].shape[-1]
    kernel = kernel.reshape(*kernel.shape[:2], channels, -1)
    strides = [1, options["strideH"], options["strideW"], 1]
    dilations = [options.get("dilationHFactor", 1), options.get("dilationWFactor", 1)]
    y = tf.nn.depthwise_conv2d(inputs[0], kernel, strides, _padding(options), dilations=dilations)
    return _activated(y if inputs[2] is None else y + inputs[2], options)


def _dense(inputs, options):
    x = inputs[0]
    if not options.get("keepNumDims") and len(x.shape) > 2:
        x = tf.reshape(x, [-1, inputs[1].shape[1]])
    y = tf.matmul(x, inputs[1], transpose_b=True)
    return _activated(y if len(inputs) < 3 or inputs[2] is None else y + inputs[2], options)


def _pool(function: Callable) -> Callable:
    def apply(inputs, options):
        window = [options["filterHeight"], options["filterWidth"]]
        return _activated(
            function(inputs[0], window, [options["strideH"], options["strideW"]], _padding(options)), options
        )

    return apply


def _reduce(function: Callable) -> Callable:
    return lambda i, o: function(i[0], [int(each) for each in np.ravel(i[1])], keepdims=bool(o.get("keepDims")))


def _strided_slice(inputs, options):
    masks = {f"{each}_mask": options[f"{each}Mask"] for each in ("begin", "end", "ellipsis")}
    new, shrink = options["newAxisMask"], options["shrinkAxisMask"]
    return tf.strided_slice(*inputs, **masks, new_axis_mask=new, shrink_axis_mask=shrink)


def _resize(method: str) -> Callable:
    def apply(inputs, options):
        if options.get("alignCorners"):
            raise ValueError("an image is resized with aligned corners")
        return tf.image.resize(inputs[0], inputs[1], method)

    return apply


_OPERATIONS: dict[str, Callable] = {
    "ADD": _two(lambda a, b: a + b),
    "SUB": _two(lambda a, b: a - b),
    "MUL": _two(lambda a, b: a * b),
    "DIV": _two(lambda a, b: a / b),
    "MAXIMUM": lambda i, o: tf.maximum(*i),
    "MINIMUM": lambda i, o: tf.minimum(*i),
    "POW": lambda i, o: tf.pow(*i),
    "SQUARED_DIFFERENCE": lambda i, o: tf.math.squared_difference(*i),
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
    "BATCH_MATMUL": lambda i, o: tf.matmul(*i, adjoint_a=bool(o.get("adjX")), adjoint_b=bool(o.get("adjY"))),
    "AVERAGE_POOL_2D": _pool(tf.nn.avg_pool2d),
    "MAX_POOL_2D": _pool(tf.nn.max_pool2d),
    "MEAN": _reduce(tf.reduce_mean),
    "SUM": _reduce(tf.reduce_sum),
    "REDUCE_MAX": _reduce(tf.reduce_max),
    "RESHAPE": lambda i, o: tf.reshape(i[0], i[1] if len(i) > 1 else o["newShape"]),
    "TRANSPOSE": lambda i, o: tf.transpose(*i),
    "CONCATENATION": lambda i, o: _activated(tf.concat(i, o["axis"]), o),
    "PACK": lambda i, o: tf.stack(i, o["axis"]),
    "SPLIT": lambda i, o: tf.split(i[1], o["numSplits"], int(i[0])),
    "SLICE": lambda i, o: tf.slice(*i),
    "STRIDED_SLICE": _strided_slice,
    "SQUEEZE": lambda i, o: tf.squeeze(i[0], [int(each) for each in o["squeezeDims"]]),
    "EXPAND_DIMS": lambda i, o: tf.expand_dims(i[0], int(np.ravel(i[1])[0])),
    "GATHER": lambda i, o: tf.gather(i[0], i[1], axis=o.get("axis", 0), batch_dims=o.get("batchDims", 0)),
    "SHAPE": lambda i, o: tf.shape(i[0]),
    "BROADCAST_TO": lambda i, o: tf.broadcast_to(*i),
    "TILE": lambda i, o: tf.tile(*i),
    "CAST": lambda i, o: tf.cast(i[0], _KINDS[o["outDataType"]].lower() if o else tf.float32),
    "DEQUANTIZE": lambda i, o: tf.cast(i[0], tf.float32),
    "PAD": lambda i, o: tf.pad(*i),
    "PADV2": lambda i, o: tf.pad(i[0], i[1], constant_values=np.asarray(i[2]).item()),
    "SOFTMAX": lambda i, o: tf.nn.softmax(o.get("beta", 1.0) * i[0]),
    "LOGISTIC": lambda i, o: tf.sigmoid(i[0]),
    "TANH": lambda i, o: tf.tanh(i[0]),
    "RELU": lambda i, o: tf.nn.relu(i[0]),
    "RELU6": lambda i, o: tf.nn.relu6(i[0]),
    "LEAKY_RELU": lambda i, o: tf.nn.leaky_relu(i[0], o["alpha"]),
    "HARD_SWISH": lambda i, o: i[0] * tf.nn.relu6(i[0] + 3.0) / 6.0,
    "GELU": lambda i, o: tf.nn.gelu(i[0], bool(o.get("approximate"))),
    "EXP": lambda i, o: tf.exp(i[0]),
    "SQRT": lambda i, o: tf.sqrt(i[0]),
    "RSQRT": lambda i, o: tf.math.rsqrt(i[0]),
    "SQUARE": lambda i, o: tf.square(i[0]),
    "ABS": lambda i, o: tf.abs(i[0]),
    "NEG": lambda i, o: tf.negative(i[0]),
    "L2_NORMALIZATION": lambda i, o: tf.math.l2_normalize(i[0], axis=-1, epsilon=1e-6),
    "RESIZE_BILINEAR": _resize("bilinear"),
    "RESIZE_NEAREST_NEIGHBOR": _resize("nearest"),
}
