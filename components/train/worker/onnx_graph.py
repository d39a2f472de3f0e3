"""An ONNX graph as TensorFlow operations: those that networks for images are made of.

So a `saved:` ONNX file becomes a part of every form of the classifier, and no second engine has to be installed where
it is served. What does not depend on the images is computed at once, shapes among it; of those the batch is not known,
and BATCH, a prime that no real shape has as a factor, stands for it.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from components.train.backbones import BackboneError

BATCH = 1_000_003


class _Context:
    """What an operation may need beside its inputs: the images' batch."""

    def __init__(self, batch: tf.Tensor) -> None:
        self.batch = batch

    def shape(self, dimensions: np.ndarray) -> Any:
        """A shape for TensorFlow, with the batch in place of its stand-in."""
        known = [int(each) for each in dimensions]
        if all(each % BATCH or not each for each in known):
            return known
        return tf.stack([each // BATCH * self.batch if each and each % BATCH == 0 else each for each in known])


def read(path: str, name: str, output: str) -> tuple[Callable[[tf.Tensor], tf.Tensor], bool]:
    """A function of images to the one output (or that called `output`), and whether it takes only one image at a time.

    Raises BackboneError: the file is damaged, or has an operation that is not among those here.
    """
    try:
        import onnx
        import onnx.reference
        from onnx import numpy_helper
    except ImportError:
        raise BackboneError(f"model={name}: onnx is not installed: python -m pip install onnx") from None
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's own kinds, and missing files of weights beside it
        raise BackboneError(f"model={name}: it cannot be read ({' '.join(str(error).split())[:200]})") from error
    graph = model.graph
    weights = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    (source,) = [each for each in graph.input if each.name not in weights]
    single = source.type.tensor_type.shape.dim[0].dim_value == 1
    target = output or graph.output[0].name

    versions = {each.domain: each.version for each in model.opset_import}

    def run(images: tf.Tensor) -> tf.Tensor:
        context = _Context(tf.shape(images)[0])
        values: dict[str, Any] = {"": None, **weights, source.name: images}
        for node in graph.node:
            inputs = [values[each] for each in node.input]
            if node.op_type not in _DYNAMIC and all(each is None or isinstance(each, np.ndarray) for each in inputs):
                found = _folded(onnx, node, values, versions)
            elif node.op_type in _OPERATIONS:
                attributes = {each.name: _attribute(onnx, each) for each in node.attribute}
                found = _OPERATIONS[node.op_type](inputs, attributes, context)
                found = found if isinstance(found, (list, tuple)) else [found]
            else:
                raise BackboneError(
                    f"model={name}: the operation {node.op_type} of its graph is not known here: export the network as "
                    "a SavedModel, or as a folder for hub:"
                )
            values.update(zip(node.output, found))
        return values[target]

    return run, single


def _folded(onnx: Any, node: Any, values: Mapping[str, Any], versions: Mapping[str, int]) -> list[np.ndarray]:
    """What does not depend on the images, by ONNX's own reference implementation, which knows every operation."""
    evaluator = onnx.reference.ReferenceEvaluator(node, opsets=dict(versions))
    return evaluator.run(None, {each: values[each] for each in node.input if each})


def _attribute(onnx: Any, attribute: Any) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return value.decode() if isinstance(value, bytes) else value


def _numbers(value: Any) -> list[int]:
    """A list of whole numbers that must not depend on the images."""
    if not isinstance(value, (np.ndarray, list, tuple)):
        raise ValueError("a shape or an index depends on what the images show")
    return [int(each) for each in np.asarray(value).ravel()]


def _axes(inputs: list, attributes: Mapping) -> list[int] | None:
    if len(inputs) > 1 and inputs[1] is not None:
        return _numbers(inputs[1])
    return list(attributes["axes"]) if "axes" in attributes else None


def _erf(x):
    """Abramowitz and Stegun 7.1.26, to 1.5e-7: LiteRT has no operation of its own."""
    a = tf.abs(x)
    t = 1 / (1 + 0.3275911 * a)
    p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return tf.sign(x) * (1 - p * tf.exp(-a * a))


def _shape(inputs, _, __):
    static = inputs[0].shape.as_list()
    if any(each is None for each in static[1:]):
        raise ValueError("a shape depends on what the images show")
    return np.asarray([BATCH if each is None else each for each in static], np.int64)


def _reshape(inputs, attributes, _):
    x, target = inputs[0], _numbers(inputs[1])
    own = [BATCH if each is None else each for each in x.shape]
    if not attributes.get("allowzero", 0):
        target = [own[i] if not each else each for i, each in enumerate(target)]
    if -1 in target:  # the batch may be left open, and then nothing else
        target[target.index(-1)] = math.prod(own) // math.prod(each for each in target if each != -1)
    return tf.reshape(x, [-1 if each % BATCH == 0 else each for each in target])


def _slice(inputs, attributes, _):
    x = inputs[0]
    if len(inputs) > 1:
        starts, ends = _numbers(inputs[1]), _numbers(inputs[2])
        axes = _numbers(inputs[3]) if len(inputs) > 3 and inputs[3] is not None else list(range(len(starts)))
        steps = _numbers(inputs[4]) if len(inputs) > 4 else [1] * len(starts)
    else:
        starts, ends = attributes["starts"], attributes["ends"]
        axes, steps = attributes.get("axes", range(len(starts))), [1] * len(starts)
    cut = [slice(None)] * len(x.shape)
    for axis, start, end, step in zip(axes, starts, ends, steps):
        edge = None if abs(end) >= 2**31 - 1 or (end and end % BATCH == 0) else end
        cut[axis] = slice(start, edge, step)
    return x[tuple(cut)]


def _gather(inputs, attributes, _):
    axis = attributes.get("axis", 0)
    if isinstance(inputs[1], np.ndarray) and not inputs[1].ndim:  # a cut is quicker than a table
        cut = [slice(None)] * len(inputs[0].shape)
        cut[axis] = int(inputs[1])
        return inputs[0][tuple(cut)]
    return tf.gather(inputs[0], inputs[1], axis=axis)


def _expand(inputs, _, context):
    target = _numbers(inputs[1])
    rank = max(len(target), len(inputs[0].shape))
    own = [1] * (rank - len(inputs[0].shape)) + [BATCH if each is None else each for each in inputs[0].shape]
    wanted = [1] * (rank - len(target)) + target
    result = tf.broadcast_to(inputs[0], context.shape(np.maximum(own, wanted)))
    result.set_shape([None if each % BATCH == 0 else each for each in np.maximum(own, wanted)])
    return result


def _constant_of_shape(inputs, attributes, context):
    value = attributes.get("value", np.zeros(1, np.float32))
    dimensions = np.asarray(_numbers(inputs[0]), np.int64)
    if any(each and each % BATCH == 0 for each in dimensions):
        filled = tf.fill(context.shape(dimensions), tf.constant(value.ravel()[0]))
        filled.set_shape([None if each % BATCH == 0 else each for each in dimensions])
        return filled
    return np.full(dimensions, value.ravel()[0])


def _pads(attributes, sides: int, x, kernel, strides, dilations) -> list[list[int]]:
    """Before and after, for each side of the images."""
    auto = attributes.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", "VALID"):
        pads = attributes.get("pads", [0] * 2 * sides) if auto == "NOTSET" else [0] * 2 * sides
        return [[pads[i], pads[i + sides]] for i in range(sides)]
    found = []
    for size, k, s, d in zip(x.shape[2:], kernel, strides, dilations):
        whole = max((math.ceil(size / s) - 1) * s + (k - 1) * d + 1 - size, 0)
        low = whole // 2 if auto == "SAME_UPPER" else whole - whole // 2
        found.append([low, whole - low])
    return found


def _padded(x, pads, value: float = 0.0):
    """NCHW to NHWC, with the images' sides padded."""
    channels_last = tf.transpose(x, [0, 2, 3, 1])
    if not any(map(any, pads)):
        return channels_last
    return tf.pad(channels_last, [[0, 0], *pads, [0, 0]], constant_values=value)


def _conv(inputs, attributes, _):
    x, kernel = inputs[0], np.asarray(inputs[1])
    if kernel.ndim != 4:
        raise ValueError("a convolution is not of images")
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    padded = _padded(x, _pads(attributes, 2, x, kernel.shape[2:], strides, dilations))
    groups, channels = attributes.get("group", 1), x.shape[1]
    if groups == channels and kernel.shape[1] == 1 and groups > 1:
        weights = kernel.transpose(2, 3, 0, 1).reshape(*kernel.shape[2:], channels, -1)
        if strides[0] == strides[1]:
            y = tf.nn.depthwise_conv2d(padded, weights, [1, *strides, 1], "VALID", dilations=dilations)
        else:
            y = tf.nn.depthwise_conv2d(padded, weights, [1, 1, 1, 1], "VALID", dilations=dilations)
            y = y[:, :: strides[0], :: strides[1]]
    else:
        weights = kernel.transpose(2, 3, 1, 0)
        pieces = zip(tf.split(padded, groups, axis=3), np.split(weights, groups, axis=3))
        y = tf.concat([tf.nn.conv2d(a, b, strides, "VALID", dilations=dilations) for a, b in pieces], axis=3)
    if len(inputs) > 2 and inputs[2] is not None:
        y = y + inputs[2]
    return tf.transpose(y, [0, 3, 1, 2])


def _pool(inputs, attributes, kind: str):
    x, kernel = inputs[0], attributes["kernel_shape"]
    strides = attributes.get("strides", [1] * len(kernel))
    pads = _pads(attributes, 2, x, kernel, strides, [1, 1])
    if attributes.get("ceil_mode", 0):
        for i in range(2):
            size = x.shape[i + 2] + sum(pads[i])
            rest = (size - kernel[i]) % strides[i]
            pads[i] = [pads[i][0], pads[i][1] + (strides[i] - rest if rest else 0)]
    if kind == "MAX":
        y = tf.nn.max_pool2d(_padded(x, pads, -3.0e38), kernel, strides, "VALID")
    else:
        y = tf.nn.avg_pool2d(_padded(x, pads), kernel, strides, "VALID")
        if any(map(any, pads)) and not attributes.get("count_include_pad", 0):
            ones = tf.ones([1, 1, *x.shape[2:]])
            y = y / tf.nn.avg_pool2d(_padded(ones, pads), kernel, strides, "VALID")
    return tf.transpose(y, [0, 3, 1, 2])


def _batch_normalization(inputs, attributes, _):
    x, scale, bias, mean, variance = inputs[:5]
    factor = scale / np.sqrt(variance + attributes.get("epsilon", 1e-5))
    sides = [1, -1, *[1] * (len(x.shape) - 2)]
    return x * factor.reshape(sides) + (bias - mean * factor).reshape(sides)


def _layer_normalization(inputs, attributes, _):
    x, axis = inputs[0], attributes.get("axis", -1)
    axes = list(range(axis % len(x.shape), len(x.shape)))
    mean = tf.reduce_mean(x, axes, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(x, mean), axes, keepdims=True)
    y = (x - mean) / tf.sqrt(variance + attributes.get("epsilon", 1e-5)) * inputs[1]
    return y + inputs[2] if len(inputs) > 2 and inputs[2] is not None else y


def _gemm(inputs, attributes, _):
    y = tf.matmul(
        inputs[0],
        inputs[1],
        transpose_a=bool(attributes.get("transA", 0)),
        transpose_b=bool(attributes.get("transB", 0)),
    ) * attributes.get("alpha", 1.0)
    return y + attributes.get("beta", 1.0) * inputs[2] if len(inputs) > 2 else y


def _clip(inputs, attributes, _):
    low = inputs[1] if len(inputs) > 1 else attributes.get("min")
    high = inputs[2] if len(inputs) > 2 else attributes.get("max")
    x = inputs[0]
    x = x if low is None else tf.maximum(x, low)
    return x if high is None else tf.minimum(x, high)


def _split(inputs, attributes, _):
    axis = attributes.get("axis", 0)
    if len(inputs) > 1 and inputs[1] is not None:
        return tf.split(inputs[0], _numbers(inputs[1]), axis)
    return tf.split(inputs[0], attributes.get("split") or attributes["num_outputs"], axis)


def _unsqueeze(inputs, attributes, _):
    axes = _axes(inputs, attributes) or [0]
    x = inputs[0]
    for axis in sorted(each % (len(x.shape) + len(axes)) for each in axes):
        x = tf.expand_dims(x, axis)
    return x


def _pad(inputs, attributes, _):
    pads = _numbers(inputs[1]) if len(inputs) > 1 else attributes["pads"]
    half = len(pads) // 2
    value = inputs[2] if len(inputs) > 2 and inputs[2] is not None else attributes.get("value", 0.0)
    mode = {"constant": "CONSTANT", "reflect": "REFLECT"}[attributes.get("mode", "constant")]
    return tf.pad(inputs[0], list(zip(pads[:half], pads[half:])), mode, constant_values=np.asarray(value).item())


def _flatten(inputs, attributes, _):
    x, axis = inputs[0], attributes.get("axis", 1)
    if axis % len(x.shape) != 1:
        raise ValueError("Flatten has another axis than 1")
    return tf.reshape(x, [-1, math.prod(x.shape[1:])])


def _reduce(function: Callable) -> Callable:
    def apply(inputs, attributes, _):
        return function(inputs[0], _axes(inputs, attributes), keepdims=bool(attributes.get("keepdims", 1)))

    return apply


def _one(function: Callable) -> Callable:
    return lambda inputs, attributes, context: function(inputs[0])


def _two(function: Callable) -> Callable:
    return lambda inputs, attributes, context: function(*inputs)


_KINDS = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float32, 11: np.float64, 2: np.uint8}
_DYNAMIC = ("ConstantOfShape", "Expand")  # a stand-in of the batch may be among their numbers
_OPERATIONS: dict[str, Callable] = {
    "Add": _two(lambda a, b: a + b),
    "Sub": _two(lambda a, b: a - b),
    "Mul": _two(lambda a, b: a * b),
    "Div": _two(lambda a, b: a / b),
    "Pow": lambda i, a, c: (
        tf.square(i[0]) if np.ndim(i[1]) == 0 and i[1] == 2 else tf.pow(i[0], tf.cast(i[1], i[0].dtype))
    ),
    "Sqrt": _one(tf.sqrt),
    "Exp": _one(tf.exp),
    "Log": _one(tf.math.log),
    "Erf": _one(_erf),
    "Neg": _one(tf.negative),
    "Abs": _one(tf.abs),
    "Reciprocal": _one(tf.math.reciprocal),
    "Tanh": _one(tf.tanh),
    "Sigmoid": _one(tf.sigmoid),
    "Relu": _one(tf.nn.relu),
    "LeakyRelu": lambda i, a, c: tf.nn.leaky_relu(i[0], a.get("alpha", 0.01)),
    "HardSigmoid": lambda i, a, c: tf.clip_by_value(a.get("alpha", 0.2) * i[0] + a.get("beta", 0.5), 0.0, 1.0),
    "HardSwish": lambda i, a, c: i[0] * tf.nn.relu6(i[0] + 3.0) / 6.0,
    "Gelu": lambda i, a, c: tf.nn.gelu(i[0], a.get("approximate", "none") == "tanh"),
    "Clip": _clip,
    "Min": _two(tf.minimum),
    "Max": _two(tf.maximum),
    "Equal": _two(tf.equal),
    "Less": _two(tf.less),
    "Greater": _two(tf.greater),
    "Where": lambda i, a, c: tf.where(*i),
    "MatMul": lambda i, a, c: tf.matmul(i[0], i[1]),
    "Gemm": _gemm,
    "Conv": _conv,
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization,
    "Softmax": lambda i, a, c: tf.nn.softmax(i[0], a.get("axis", -1)),
    "ReduceMean": _reduce(tf.reduce_mean),
    "ReduceSum": _reduce(tf.reduce_sum),
    "ReduceMax": _reduce(tf.reduce_max),
    "ReduceProd": _reduce(tf.reduce_prod),
    "ReduceL2": _reduce(lambda x, axes, keepdims: tf.sqrt(tf.reduce_sum(tf.square(x), axes, keepdims=keepdims))),
    "GlobalAveragePool": lambda i, a, c: tf.reduce_mean(i[0], [2, 3], keepdims=True),
    "GlobalMaxPool": lambda i, a, c: tf.reduce_max(i[0], [2, 3], keepdims=True),
    "AveragePool": lambda i, a, c: _pool(i, a, "AVG"),
    "MaxPool": lambda i, a, c: _pool(i, a, "MAX"),
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Transpose": lambda i, a, c: tf.transpose(i[0], a.get("perm")),
    "Concat": lambda i, a, c: tf.concat(i, a["axis"]),
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Unsqueeze": _unsqueeze,
    "Squeeze": lambda i, a, c: tf.squeeze(i[0], _axes(i, a)),
    "Expand": _expand,
    "Shape": _shape,
    "ConstantOfShape": _constant_of_shape,
    "Cast": lambda i, a, c: tf.cast(i[0], _KINDS[a["to"]]),
    "Pad": _pad,
    "Identity": _one(lambda x: x),
    "Dropout": _one(lambda x: x),
}
