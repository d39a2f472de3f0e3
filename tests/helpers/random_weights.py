"""Random weights for networks of which a test needs features that differ from picture to picture."""

import keras
import numpy as np


def enliven(network: keras.Model) -> None:
    """Draws every convolution so that signals keep their size (He et al., arXiv:1502.01852): Keras lets them fade."""
    random = np.random.default_rng(1)
    for layer in network._flatten_layers(include_self=False, recursive=True):
        for kernel in layer._trainable_variables + layer._non_trainable_variables:
            if len(kernel.shape) == 4:
                height, width, inputs, _ = kernel.shape
                fan = height * width * (1 if isinstance(layer, keras.layers.DepthwiseConv2D) else inputs)
                kernel.assign(random.normal(0, (2 / fan) ** 0.5, kernel.shape))
