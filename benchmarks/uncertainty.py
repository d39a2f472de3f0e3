"""Does a set of labels hold the truth as often as promised, and are photographs refused by a model of paintings?

    python -m benchmarks.uncertainty --weights FILE --model mobilenet_v2 --known FOLDER --unknown FOLDER

Folders have one folder per class; of `--unknown` only the pictures count. The features of the frozen network are
computed once; then, ten times, other splits, another regression, other thresholds: as training does it.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedShuffleSplit

from components.artifacts import uncertainty
from components.shared import imaging
from components.shared.calibration import fit_temperature, softmax
from components.shared.cores import available_cores

STORED, STRENGTH, SEEDS = 256, 100.0, 10
COVERAGES = (0.8, 0.9, 0.95)
ENDINGS = (".jpg", ".jpeg", ".png")


def main() -> None:
    """Prints a table per coverage, and the shares that are taken for unlike what was learned."""
    options = _options()
    network = network_of(options.model, options.weights)
    known, unknown = pictures_below(options.known), pictures_below(options.unknown)
    names = sorted({path.parent.name for path in known})
    labels = np.array([names.index(path.parent.name) for path in known])
    features, others = features_of(network, known), features_of(network, unknown)
    results = [_once(features, labels, others, seed) for seed in range(SEEDS)]
    print("\ncoverage  held (least, most)      labels  answered  of these right")
    for number, coverage in enumerate(COVERAGES):
        found = np.array([result[number] for result, *_ in results])
        held, size, answered, right = found.mean(axis=0)
        least, most = found[:, 0].min(), found[:, 0].max()
        print(f"{coverage:8.2f}  {held:.3f} ({least:.3f}, {most:.3f})  {size:.2f}    {answered:.3f}     {right:.3f}")
    accuracy, refused, strange = np.array([rest for _, *rest in results]).mean(axis=0)
    print(f"accuracy {accuracy:.3f}; unlike: {refused:.3f} of the test pictures, {strange:.3f} of the unknown")


def _once(features: np.ndarray, labels: np.ndarray, others: np.ndarray, seed: int) -> tuple:
    from components.train.worker import regression

    train, validation, test = _split(labels, seed)
    classes, both = int(labels.max()) + 1, np.concatenate([train, validation])
    scores = regression.fit(features[train], labels[train], classes, STRENGTH).logits(features[validation])
    temperature = fit_temperature(scores, labels[validation])
    served = regression.fit(features[both], labels[both], classes, STRENGTH)
    rows = softmax(served.logits(features[test]) / temperature)
    known = uncertainty.fit(softmax(scores / temperature), labels[validation], features[train], features[validation])
    found, right = [], rows.argmax(axis=1) == labels[test]
    for coverage in COVERAGES:
        sets = known.sets(rows, coverage)
        one = (sets.sum(axis=1) == 1) & ~known.unlike(features[test])
        held = sets[np.arange(len(test)), labels[test]].mean()
        found.append((held, sets.sum(axis=1).mean(), one.mean(), right[one].mean()))
    return found, right.mean(), known.unlike(features[test]).mean(), known.unlike(others).mean()


def _split(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rest, test = next(StratifiedShuffleSplit(1, test_size=0.15, random_state=seed).split(labels, labels))
    parts = StratifiedShuffleSplit(1, test_size=0.25 / 0.85, random_state=seed).split(rest, labels[rest])
    train, validation = next(parts)
    return rest[train], rest[validation], test


def network_of(name: str, path: str):
    """The base of the pre-trained network `name` with the weights at `path`: its last layer, and its stages."""
    from components.train import models, zoo
    from components.train.worker import weights

    stages = models.Reading(stages=bool(zoo.entry(name).card.stages))
    size = imaging.input_size(STORED)
    network = models.build(name, size, 2, weights.options(path, name), pre_trained=True, reading=stages)
    weights.load(network.base, path, name)
    return network.base


def features_of(base, paths: list[Path]) -> np.ndarray:
    """[n, width] of the pictures at `paths`."""
    from components.train.worker.lite import Runner, convert

    run = Runner(convert(base), available_cores())
    parts = [paths[first : first + 64] for first in range(0, len(paths), 64)]
    return np.concatenate(
        [run(np.stack([imaging.model_input(path.read_bytes(), STORED) for path in part])) for part in parts]
    )


def pictures_below(folder: str) -> list[Path]:
    """The pictures in `folder` and the folders inside, in order."""
    return sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in ENDINGS)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilenet_v2", help="name in the zoo (default: %(default)s)")
    parser.add_argument("--weights", required=True, help="Keras weights file of the network without its top")
    parser.add_argument("--known", required=True, help="folder of pictures to learn from, one folder per class")
    parser.add_argument("--unknown", required=True, help="folder of pictures of another kind")
    return parser.parse_args()


if __name__ == "__main__":
    main()
