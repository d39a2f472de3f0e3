"""The hand-written networks: pixels in -1..1 to a vector of features."""

import keras
from keras import layers


def simple_cnn(size: int, width: int = 32) -> keras.Model:
    """A small convolutional network: five blocks of convolution, normalisation and ReLU, each halving the image.

    Group instead of batch normalisation: it knows no batch, so two workers compute what one would. Images much
    larger than 112 pixels are averaged down first: a network this small learns no more from more of them.
    """
    pixels = keras.Input((size, size, 3))
    x = layers.AveragePooling2D(size // 112)(pixels) if size >= 224 else pixels
    x = layers.Conv2D(width, 5, strides=2, padding="same", use_bias=False)(x)
    x = layers.Activation("relu")(layers.GroupNormalization(groups=8)(x))
    for filters in (width, 2 * width, 4 * width, 4 * width):
        x = layers.MaxPooling2D(2, padding="same")(x)
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.Activation("relu")(layers.GroupNormalization(groups=8)(x))
    return keras.Model(pixels, layers.GlobalAveragePooling2D()(x), name="simple_cnn")


def alexnet(size: int) -> keras.Model:
    """AlexNet with one tower and batch normalisation in place of local response normalisation.

    Source: Krizhevsky, One weird trick for parallelizing convolutional neural networks (arXiv:1404.5997), 2014.
    """
    pixels = keras.Input((size, size, 3))
    x = _convolution(pixels, 64, 11, strides=4)
    x = _convolution(layers.MaxPooling2D(3, 2, padding="same")(x), 192, 5)
    x = _convolution(layers.MaxPooling2D(3, 2, padding="same")(x), 384, 3)
    x = _convolution(x, 256, 3)
    x = _convolution(x, 256, 3)
    x = layers.Flatten()(layers.MaxPooling2D(3, 2, padding="same")(x))
    for _ in range(2):
        x = layers.Dense(4096, activation="relu")(layers.Dropout(0.5)(x))
    return keras.Model(pixels, x, name="alexnet")


def _convolution(x, filters: int, kernel: int, strides: int = 1):
    x = layers.Conv2D(filters, kernel, strides=strides, padding="same", use_bias=False)(x)
    return layers.Activation("relu")(layers.BatchNormalization()(x))
