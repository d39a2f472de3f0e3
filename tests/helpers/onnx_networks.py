"""A small ONNX network with what PyTorch's exporter writes: computed shapes, a cls token, an attention, a GELU."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def write(
    path: Path,
    batch: int | str = "batch",
    outputs: Sequence[str] = ("vector",),
    operation: str = "Relu",
    shape: Sequence[int] = (3, 28, 28),
) -> str:
    """Images [batch, 3, 28, 28] to a vector of 6 by convolutions and one layer of attention; returns the path."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(4)
    weights = {
        "kernel": random.normal(0, 0.2, (8, 3, 4, 4)), "scale": random.normal(1, 0.1, 8), "bias": np.full(8, 0.1),
        "mean": random.normal(0, 0.1, 8), "variance": np.full(8, 0.9), "depth": random.normal(0, 0.4, (8, 1, 3, 3)),
        "cls": random.normal(0, 1, (1, 1, 8)), "qkv": random.normal(0, 0.5, (8, 24)), "root": np.full((), 2.0),
        "sqrt2": np.full((), 2**0.5), "one": np.ones(()), "half": np.full((), 0.5), "last": random.normal(0, 1, (6, 8)),
        "offset": np.zeros(6),
    }  # fmt: skip
    numbers = {
        "zero": 0, "first": [0], "rest": [1, 8], "three": [1], "flat": [-1, 8], "end": [-1], "all": [1, 1, 1],
        "tail": [-1, 3, 2, 4], "merged": [-1, 8],
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Conv", ["images", "kernel"], ["a"], strides=[4, 4], kernel_shape=[4, 4]),
        node("BatchNormalization", ["a", "scale", "bias", "mean", "variance"], ["b"]),
        node(operation, ["b"], ["c"]),
        node("Conv", ["c", "depth"], ["d"], group=8, pads=[1, 1, 1, 1]),
        node("MaxPool", ["d"], ["pooled"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Shape", ["pooled"], ["shape"]),
        node("Gather", ["shape", "zero"], ["n"]),
        node("Unsqueeze", ["n", "first"], ["count"]),
        node("Concat", ["count", "rest"], ["wide"], axis=0),
        node("Concat", ["wide", "end"], ["target"], axis=0),
        node("Reshape", ["pooled", "patched"], ["e"]),
        node("Transpose", ["e"], ["patches"], perm=[0, 2, 1]),
        node("Concat", ["count", "three", "eight"], ["size"], axis=0),
        node("Expand", ["cls", "size"], ["token"]),
        node("Concat", ["token", "patches"], ["x"], axis=1),
        node("MatMul", ["x", "qkv"], ["y"]),
        node("Concat", ["count", "tail"], ["heads"], axis=0),
        node("Reshape", ["y", "heads"], ["z"]),
        node("Transpose", ["z"], ["parts"], perm=[2, 0, 3, 1, 4]),
        node("Gather", ["parts", "zero"], ["q"], axis=0),
        node("Split", ["parts"], ["q1", "k1", "v1"], axis=0, num_outputs=3),
        node("Squeeze", ["k1", "first"], ["k"]),
        node("Squeeze", ["v1", "first"], ["v"]),
        node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
        node("MatMul", ["q", "kt"], ["s"]),
        node("Div", ["s", "root"], ["t"]),
        node("Softmax", ["t"], ["u"], axis=-1),
        node("MatMul", ["u", "v"], ["w"]),
        node("Transpose", ["w"], ["w1"], perm=[0, 2, 1, 3]),
        node("Concat", ["count", "merged"], ["joined"], axis=0),
        node("Reshape", ["w1", "joined"], ["w2"]),
        node("Div", ["w2", "sqrt2"], ["g1"]),
        node("Erf", ["g1"], ["g2"]),
        node("Add", ["g2", "one"], ["g3"]),
        node("Mul", ["w2", "g3"], ["g4"]),
        node("Mul", ["g4", "half"], ["g5"]),
        node("ReduceMean", ["g5", "three"], ["g6"], keepdims=0),
        node("Gemm", ["g6", "last", "offset"], ["vector"], transB=1),
    ]
    numbers |= {"eight": [8], "patched": [0, 8, -1]}
    given = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()]
    given += [numpy_helper.from_array(np.asarray(value, np.int64), name) for name, value in numbers.items()]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, *shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        given,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return str(path)
