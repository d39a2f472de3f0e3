"""Networks of backbones: pixels (0..255) to features, and from them to the scores of the classes."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from components.shared.errors import PipelineError
from components.shared.geometry import input_size
from components.train import backbones, zoo
from components.train.backbones import Backbone
from components.train.cards import Card
from components.train.zoo import Architecture

if TYPE_CHECKING:
    import keras

_LOWEST_RATE = 0.1  # of the lowest layer that is fine-tuned, beside the topmost one's 1
_LEAST_VARIANCE = 1e-6  # of a channel over an image

Known = Architecture | Backbone


class Foreign(Protocol):
    """A backbone that is no entry of the zoo, with its files at hand."""

    @property
    def backbone(self) -> Backbone:
        """What its files say of it."""

    def network(self, side: int, stages: Sequence[str]) -> "keras.Model":
        """Prepared images [batch, side, side, 3] to its outputs: the last one, then those of `stages`."""


@dataclass(frozen=True)
class Reading:
    """What a head reads of a frozen network: blocks of numbers, each of Euclidean length 1.

    Attributes:
        stages: beside the mean of the last layer, mean and standard deviation over the image of each stage.
        flip: the mean over the image and its mirror image, which costs a second pass.
    """

    stages: bool = False
    flip: bool = False


@dataclass(frozen=True)
class Network:
    """A classifier in its parts: `model` is `head` after `base`.

    base: pixels [batch, size, size, 3] (0..255) to features [batch, width]; head: features to logits [batch, classes].
    """

    base: "keras.Model"
    head: "keras.Model"
    model: "keras.Model"


def known(name: str) -> Known:
    """The entry of the zoo, or what the files of a backbone say. Raises as `zoo.entry` and `backbones.describe`."""
    return backbones.describe(name) if backbones.is_foreign(name) else zoo.entry(name)


def check_size(name: str, size: int, pre_trained: bool, entry: Known | None = None) -> None:
    """Raises PipelineError if images of `size` pixels are too small for the model `name`, whose entry may be given."""
    entry = entry or known(name)
    if _fits(entry, size, pre_trained):
        return
    use = f"set image_size={smallest_image_size(name, pre_trained, entry)} or more, or choose another model"
    if _is_flexible(entry):
        needs = f"needs pictures of at least {entry.card.minimum_size} pixels and gets {size}"
    else:
        needs = f"takes pictures of {entry.card.input_size} pixels and gets {size}, which may be enlarged at most twice"
    raise PipelineError(f"model={name} {needs}; {use}")


def smallest_image_size(name: str, pre_trained: bool, entry: Known | None = None) -> int:
    """The smallest parameter image_size (stored images) with which the model `name` can work."""
    entry = entry or known(name)
    return next(stored for stored in itertools.count(16) if _fits(entry, input_size(stored), pre_trained))


def base_size(entry: Known, size: int, pre_trained: bool) -> int:
    """Side in pixels at which the network works on images of `size`.

    Pre-trained filters know objects at the size they were trained on: smaller images are enlarged, at most twice
    (on 112 px paintings a frozen MobileNet gains 7 points of accuracy). A network of one size gets images of that.
    """
    native = entry.card.input_size
    if not _is_flexible(entry):
        return native
    return max(size, min(native, 2 * size)) if pre_trained else size


def _is_flexible(entry: Known) -> bool:
    return isinstance(entry, Architecture) or entry.flexible


def _fits(entry: Known, size: int, pre_trained: bool) -> bool:
    if not _is_flexible(entry):
        return 2 * size >= entry.card.input_size
    return base_size(entry, size, pre_trained) >= entry.card.minimum_size


def build(
    name: str,
    size: int,
    labels: int,
    options: Mapping[str, Any] | None = None,
    pre_trained: bool = False,
    reading: Reading | None = None,
    foreign: Foreign | None = None,
) -> Network:
    """The network `name` for images of `size` pixels and `labels` classes, with random weights.

    `options` override the entry's (such as alpha); `pre_trained` says that weights will be loaded; features are the
    mean of the last layer, or what `reading` says. Of a `foreign` backbone weights that are no variables are in place.
    Raises PipelineError if the images are too small for it.
    """
    import keras

    entry = foreign.backbone if foreign else zoo.entry(name)
    check_size(name, size, pre_trained, entry)
    side = base_size(entry, size, pre_trained)
    pixels = keras.Input((size, size, 3), name="pixels")
    enlarged = pixels if side == size else keras.layers.Resizing(side, side, name="enlarge")(pixels)
    prepared = _prepare(enlarged, entry.card)
    if isinstance(entry, Architecture):
        body = _own(entry, side, dict(entry.options, **(options or {})), reading)
        tokens = None
    else:
        assert foreign is not None
        body = foreign.network(side, entry.card.stages if reading and reading.stages else ())
        tokens = entry.tokens
    values = body(prepared) if reading is None and not foreign else _read(body, prepared, entry.card, tokens, reading)
    base = keras.Model(pixels, values, name="base")
    features = keras.Input(base.output_shape[1:], name="features")
    head = keras.Model(features, keras.layers.Dense(labels, name="logits", dtype="float32")(features), name="head")
    return Network(base, head, keras.Model(pixels, head(base(pixels)), name=backbones.short_name(name)))


def with_features(model: "keras.Model") -> "keras.Model":
    """The network's `model` from pixels to [logits, features] instead of logits alone; it shares the weights."""
    import keras

    features = model.get_layer("base")(model.input)
    return keras.Model(model.input, [model.get_layer("head")(features), features], name=model.name)


def last_width(base: "keras.Model", card: Card) -> int:
    """How many of the base's features, the first ones, are of the last layer."""
    shapes = pre_trained_part(base).output_shape
    last = shapes[0] if isinstance(shapes[0], (list, tuple)) else shapes  # of one output Keras gives no list
    return int(last[-1]) * (2 if card.pooling == "cls+mean" else 1)


def pre_trained_part(base: "keras.Model") -> "keras.Model":
    """The network itself, without the preprocessing before it."""
    import keras

    return next(layer for layer in base.layers if isinstance(layer, keras.Model))


def unfreeze_upper(base: "keras.Model", share: float = 0.4) -> None:
    """Makes the upper part of a pre-trained base trainable: the last `share` of its layers that have weights.

    Batch normalisation stays frozen, or its statistics, taken from small batches, would undo the pre-training
    (https://keras.io/guides/transfer_learning/).
    """
    import keras

    layers = list(_layers_with_weights(pre_trained_part(base)))
    base.trainable = True
    for number, layer in enumerate(layers):  # a layer comes before those that it is made of: they have the last word
        upper = number >= len(layers) * (1 - share)
        layer.trainable = upper and not isinstance(layer, keras.layers.BatchNormalization)


def layer_rates(base: "keras.Model") -> dict[int, float]:
    """What to multiply the learning rate with, by the id of each trainable variable of a pre-trained base.

    From 1 at the top it falls by the same factor from layer to layer: the lower a layer, the more general its filters
    (discriminative fine-tuning, arXiv:1801.06146).
    """
    own = [list(_own_trainable(layer)) for layer in _layers_with_weights(pre_trained_part(base))]
    layers = [variables for variables in own if variables]
    last = len(layers) - 1
    return {
        id(variable): _LOWEST_RATE ** ((last - number) / max(last, 1))
        for number, variables in enumerate(layers)
        for variable in variables
    }


def _layers_with_weights(network: "keras.Model") -> Iterator[Any]:
    """From the input to the output, each layer that has weights of its own; those inside a layer come after it."""
    seen: set[int] = set()

    def below(layer: Any) -> Iterator[Any]:
        for child in layer.layers if hasattr(layer, "inputs") else layer._layers:
            if id(child) in seen:
                continue
            seen.add(id(child))
            if child._trainable_variables or child._non_trainable_variables:
                yield child
            yield from below(child)

    return below(network)


def _own_trainable(layer: Any) -> Iterator[Any]:
    return (variable for variable in layer._trainable_variables if variable.trainable)


def _own(entry: Architecture, size: int, options: Mapping[str, Any], reading: Reading | None) -> "keras.Model":
    """The network of an entry of the zoo: to the mean of its last layer, or to the maps that `reading` needs."""
    import keras

    from components.train import networks

    if hand_written := getattr(networks, entry.builder, None):
        return hand_written(size, **options)
    builder = getattr(keras.applications, entry.builder)
    pooling = "avg" if reading is None else None
    body = builder(include_top=False, weights=None, input_shape=(size, size, 3), pooling=pooling, **options)
    if reading is None:
        return body
    stages = entry.card.stages if reading.stages else ()
    return keras.Model(body.input, [body.output, *(body.get_layer(name).output for name in stages)], name=body.name)


def _prepare(pixels, card: Card):
    import keras

    ordered = keras.ops.flip(pixels, axis=-1) if card.channels == "BGR" else pixels
    scale, offset = card.factors
    if scale == [1.0] * 3 and offset == [0.0] * 3:
        return ordered
    same = len(set(scale)) == len(set(offset)) == 1
    return keras.layers.Rescaling(scale[0] if same else scale, offset[0] if same else offset)(ordered)


def _read(body: "keras.Model", pixels, card: Card, tokens: int | None, reading: Reading | None):
    """The features [batch, width] that `reading` takes of the network, the last layer's first."""
    import keras

    def values(images):
        outputs = body(images)
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        last = _pooled(outputs[0], card.pooling, tokens)
        return _joined(last) if reading is None else _blocks(last, [_as_map(each, tokens) for each in outputs[1:]])

    if reading is None or not reading.flip:
        return values(pixels)
    return keras.layers.Average(name="both_sides")([values(pixels), values(keras.ops.flip(pixels, axis=2))])


def _pooled(output, pooling: str, tokens: int | None) -> list:
    """Vectors [batch, channels] of a map [batch, h, w, channels], of tokens [batch, n, channels], or of a vector."""
    import keras

    if len(output.shape) == 4:
        return [keras.layers.GlobalAveragePooling2D(dtype="float32")(output)]
    if len(output.shape) == 2:
        return [output]
    first = [output[:, 0]] if "cls" in pooling else []
    mean = [keras.layers.GlobalAveragePooling1D(dtype="float32")(output[:, tokens or 0 :])] if "mean" in pooling else []
    return [*first, *mean]


def _as_map(output, tokens: int | None):
    """Tokens of patches as a map [batch, n, 1, channels]."""
    import keras

    return keras.ops.expand_dims(output[:, tokens or 0 :], 2) if len(output.shape) == 3 else output


def _joined(blocks: list):
    import keras

    return keras.layers.Concatenate(dtype="float32")(blocks) if len(blocks) > 1 else blocks[0]


def _blocks(last: list, maps: list):
    """[batch, width]: the vectors of the `last` layer, of the `maps` [batch, h, w, channels] mean and deviation."""
    import keras

    means = [keras.layers.GlobalAveragePooling2D(dtype="float32")(each) for each in maps]
    deviations = [_deviation(each, mean) for each, mean in zip(maps, means, strict=True)]
    blocks = [*last, *(block for pair in zip(means, deviations, strict=True) for block in pair)]
    return _joined([keras.layers.UnitNormalization(dtype="float32")(block) for block in blocks])


def _deviation(values, mean):
    import keras

    squares = keras.layers.GlobalAveragePooling2D(dtype="float32")(keras.layers.Multiply(dtype="float32")([values] * 2))
    variance = keras.layers.Subtract(dtype="float32")([squares, keras.layers.Multiply(dtype="float32")([mean] * 2)])
    # Rounding can leave a little below 0, and at 0 the root has no finite gradient.
    return keras.ops.sqrt(keras.layers.ReLU(dtype="float32")(variance) + _LEAST_VARIANCE)
