"""Thousands of copies of one picture, assembled by a process whose memory is measured:
python -m tests.helpers.crowd FOLDER"""

import json
import re
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tests.helpers.image_shards import Item, assemble, drawing, stored

COPIES = 3000


def perturbed(image: Image.Image, seed: int) -> bytes:
    """The picture in another quality and some pixels smaller: a file of its own."""
    rng = np.random.default_rng(seed)
    small = image.resize((image.width - int(rng.integers(0, 8)), image.height - int(rng.integers(0, 8))))
    return stored(small, quality=int(rng.integers(60, 95)))


def main(folder: str) -> None:
    """Prints the examples that are left, and the peak memory of this process, as JSON."""
    placeholder = ImageOps.expand(drawing(1), 20, (200, 200, 200))
    items = [Item(f"p{k:04d}", "Dutch", "train", perturbed(placeholder, k)) for k in range(COPIES)]
    items += [Item(f"o{k}", "French", "train", stored(drawing(k))) for k in range(10, 30)]
    # Blank ones are all alike and not equal.
    items += [Item(f"b{k:04d}", "French", "train", stored(Image.new("L", (160, 128), k % 250))) for k in range(1500)]
    items[500].split = "test"
    result = assemble(Path(folder), items)
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]
    print(json.dumps({"examples": result.summary.examples, "megabytes": int(peak) / 1024}))


if __name__ == "__main__":
    main(sys.argv[1])
