"""A finished model as a frozen part of a network: SavedModel, .keras, ONNX and LiteRT.

Its graph, weights as constants, becomes a layer. So every form that the classifier is exported to contains it, and
nothing of the file is needed afterwards.
"""

import base64
import zlib
from collections.abc import Callable

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from components.train.backbones import Backbone, BackboneError
from components.train.worker import onnx_graph, tflite_graph


@keras.saving.register_keras_serializable(package="museum_classifier")
class FrozenGraph(keras.layers.Layer):
    """A graph without variables: images [batch, side, side, 3] float32 to one output, whatever the policy.

    Args:
        graph: the serialised GraphDef.
        source, target: names of its input and output tensor.
        shape: of the output, with None for what varies.
        single: whether it takes one image at a time.
    """

    def __init__(
        self, graph: bytes | str, source: str, target: str, shape: list[int | None], single: bool = False, **options
    ) -> None:
        super().__init__(**{**options, "dtype": "float32", "trainable": False})
        self._graph = zlib.decompress(base64.b64decode(graph)) if isinstance(graph, str) else graph
        self._ends, self._shape, self._single = (source, target), list(shape), single
        self._function: Callable | None = None

    def call(self, images):
        """[batch, ...] float32."""
        if self._function is None:
            definition = tf.compat.v1.GraphDef.FromString(self._graph)
            with tf.init_scope():
                wrapped = tf.compat.v1.wrap_function(
                    lambda: tf.compat.v1.import_graph_def(definition, name=""), signature=[]
                )
            self._function = wrapped.prune(*(wrapped.graph.as_graph_element(name) for name in self._ends))
        images = tf.cast(images, tf.float32)
        if self._single and images.shape[0] != 1:
            kind = tf.TensorSpec(self._shape[1:], tf.float32)
            values = tf.map_fn(lambda each: self._function(each[None])[0], images, fn_output_signature=kind)
        else:
            values = self._function(images)
        values.set_shape([images.shape[0], *self._shape[1:]])
        return values

    def compute_output_shape(self, input_shape):
        """With the batch of the images."""
        return (input_shape[0], *self._shape[1:])

    def get_config(self):
        """The graph is part of it: a classifier's .keras file needs no other."""
        packed = base64.b64encode(zlib.compress(self._graph, 1)).decode()
        ends = {"source": self._ends[0], "target": self._ends[1], "shape": self._shape, "single": self._single}
        return {**super().get_config(), "graph": packed, **ends}


def network(backbone: Backbone, path: str, side: int) -> keras.Model:
    """Prepared images [batch, side, side, 3] to what the model at the local `path` makes of them.

    Raises BackboneError: it cannot be read, or does not turn images of this size into one vector, tokens or map.
    """
    function, single = _READERS[backbone.form](path, backbone)
    pixels = keras.Input((side, side, 3))
    ordered = keras.ops.transpose(pixels, (0, 3, 1, 2)) if backbone.card.layout == "NCHW" else pixels
    try:
        layer = _layer(function, tuple(ordered.shape[1:]), single)
        values = layer(ordered)
    except (ValueError, TypeError, tf.errors.OpError) as error:
        what = " ".join(str(error).split())[:300]
        raise BackboneError(
            f"model={backbone.name}: it does not take {backbone.card.layout} images of {side} pixels ({what}); correct "
            "input_size or layout in its card"
        ) from error
    if len(values.shape) not in (2, 3, 4) or values.shape[-1] is None:
        shape = " x ".join(str(each or "?") for each in values.shape)
        raise BackboneError(f"model={backbone.name}: its output is {shape}; expected is a vector, tokens or a map")
    return keras.Model(pixels, [values], name="saved")


def _layer(function: Callable, shape: tuple[int, ...], single: bool) -> FrozenGraph:
    signature = tf.TensorSpec([1 if single else None, *shape], tf.float32, name="images")
    answer = lambda images: tf.cast(function(images), tf.float32)  # noqa: E731
    with tf.device("/cpu:0"):
        concrete = tf.function(answer, autograph=False).get_concrete_function(signature)
        fixed = convert_variables_to_constants_v2(concrete, lower_control_flow=False)
    (source,), (target,) = fixed.inputs, fixed.outputs
    definition = fixed.graph.as_graph_def()
    for node in definition.node:  # a placement of the machine that wrote it is none of this one
        node.device = ""
    kept, found = definition.SerializeToString(), target.shape.as_list()
    return FrozenGraph(kept, source.name, target.name, found, single, name="frozen")


def _one(outputs, backbone: Backbone):
    """The one output, or that which the card names."""
    if not isinstance(outputs, dict):
        outputs = dict(enumerate(outputs)) if isinstance(outputs, (list, tuple)) else {"output": outputs}
    wanted = backbone.card.output
    if wanted in outputs:
        return outputs[wanted]
    if wanted or len(outputs) != 1:
        names = ", ".join(map(str, outputs))
        raise BackboneError(
            f"model={backbone.name}: it has the outputs {names}; write the vector's as output into its card"
        )
    return next(iter(outputs.values()))


def _keras(path: str, backbone: Backbone) -> tuple[Callable, bool]:
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises many kinds
        what = " ".join(str(error).split())[:300]
        raise BackboneError(
            f"model={backbone.name}: Keras cannot load it ({what}); code inside is never run: save it without Lambda "
            "layers and own classes, or as a SavedModel"
        ) from error
    return lambda images: _one(model(images, training=False), backbone), False


def _saved_model(path: str, backbone: Backbone) -> tuple[Callable, bool]:
    try:
        loaded = tf.saved_model.load(path)
    except Exception as error:
        what = " ".join(str(error).split())[:300]
        raise BackboneError(f"model={backbone.name}: TensorFlow cannot load it ({what})") from error
    signatures = dict(loaded.signatures)
    if "serving_default" not in signatures and "serve" not in signatures:
        there = ", ".join(signatures) or "none"
        raise BackboneError(f"model={backbone.name}: its signatures are {there}; export it with serving_default")
    signature = signatures.get("serving_default") or signatures["serve"]
    names = list(signature.structured_input_signature[1])
    if len(names) != 1:
        raise BackboneError(
            f"model={backbone.name}: it takes {len(names)} inputs ({', '.join(names)}); one is expected"
        )
    expected = signature.structured_input_signature[1][names[0]]

    def call(images: tf.Tensor) -> tf.Tensor:
        assert loaded  # its variables live as long as it does
        return _one(signature(**{names[0]: tf.cast(images, expected.dtype)}), backbone)

    return call, expected.shape.rank == 4 and expected.shape[0] == 1


_READERS: dict[str, Callable[[str, Backbone], tuple[Callable, bool]]] = {
    "keras": _keras,
    "saved_model": _saved_model,
    "onnx": lambda path, backbone: onnx_graph.read(path, backbone.name, backbone.card.output),
    "tflite": lambda path, backbone: tflite_graph.read(path, backbone.name, backbone.card.output),
}
