"""One engine in a process of its own: python -m components.annotate.engine MODEL_FOLDER.

It reads lists of encoded images from its standard input, pickled, and writes what it saw of each to standard output:
probabilities [classes] and features [width], or None of one that cannot be read. It ends when its input does, so also
when whoever started it was killed. Threads would share Python's lock, which decoding and preparing images hold.
"""

import os
import pickle
import sys

from components.artifacts import classifier
from components.shared.imaging import ImageError


def main(directory: str) -> None:
    """Answers until the input ends."""
    with os.fdopen(os.dup(1), "wb") as output:
        os.dup2(2, 1)  # what a library prints must not come between
        model = classifier.load(directory)
        while True:
            try:
                images = pickle.load(sys.stdin.buffer)  # noqa: S301  from the process that started this one
            except EOFError:
                return
            pickle.dump([_seen(model, image) for image in images], output, pickle.HIGHEST_PROTOCOL)
            output.flush()


def _seen(model: classifier.Classifier, image: bytes):
    try:
        [row], [features] = model.look([image])
        return row, features
    except ImageError:
        return None


if __name__ == "__main__":
    main(sys.argv[1])
