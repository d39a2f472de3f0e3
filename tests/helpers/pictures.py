"""Two dozen pictures of two classes, in which colour tells the classes apart."""

import io
from pathlib import Path

import numpy
from PIL import Image

CLASSES = ("French", "Japan")
NUMBERS = range(1, 25)


def class_of(number: int) -> str:
    return CLASSES[number % 2]


def jpeg(number: int) -> bytes:
    """Coarse noise in the colour of its class: no two pictures are alike."""
    noise = numpy.random.default_rng(number).integers(0, 160, (8, 8, 3))
    noise[..., number % 2] += 90
    out = io.BytesIO()
    Image.fromarray(noise.astype(numpy.uint8)).resize((64, 64), Image.Resampling.NEAREST).save(out, "JPEG")
    return out.getvalue()


def folder_of_pictures(root: Path) -> Path:
    """Fills `root` with a folder per class, such as Japan/1.jpg; returns it."""
    for number in NUMBERS:
        path = root / class_of(number) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number))
    return root
