"""Do 100 labels teach more where annotate asks for them than at random?

    python -m benchmarks.label_next --weights FILE --model mobilenet_v2 --known FOLDER

FOLDER has one folder per class. Of 70 % of the pictures 40 % are labelled; a regression on frozen features learns from
these, 100 of the others are chosen and labelled, and it learns again. Accuracy is on the other 30 %. Once per seed.
"""

import argparse

import numpy as np
from sklearn.model_selection import StratifiedShuffleSplit

from benchmarks.uncertainty import STRENGTH, features_of, network_of, pictures_below
from components.annotate.candidates import MOST
from components.annotate.publish.label_next import choose
from components.artifacts.embeddings import unit
from components.shared.calibration import softmax

LABELLED, TEST, COUNT, DRAWS = 0.4, 0.3, 100, 5


def main() -> None:
    """Prints the accuracies of every seed, and their means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilenet_v2", help="name in the zoo (default: %(default)s)")
    parser.add_argument("--weights", required=True, help="Keras weights file of the network without its top")
    parser.add_argument("--known", required=True, help="folder of pictures, one folder per class")
    parser.add_argument("--seeds", type=int, default=5, help="(default: %(default)s)")
    options = parser.parse_args()
    paths = pictures_below(options.known)
    names = sorted({path.parent.name for path in paths})
    labels = np.array([names.index(path.parent.name) for path in paths])
    features = features_of(network_of(options.model, options.weights), paths)
    print("\nseed  before  random  chosen")
    rows = []
    for seed in range(options.seeds):
        rows.append(_once(features, labels, seed))
        print(f"{seed:4}  {'   '.join(f'{each:.3f}' for each in rows[-1])}", flush=True)
    print(f"mean  {'   '.join(f'{each:.4f}' for each in np.mean(rows, axis=0))}")


def _once(features: np.ndarray, labels: np.ndarray, seed: int) -> tuple[float, float, float]:
    from components.train.worker import regression

    rest, test = next(StratifiedShuffleSplit(1, test_size=TEST, random_state=seed).split(labels, labels))
    generator = np.random.default_rng(seed)
    rest = generator.permutation(rest)
    known, others = np.split(rest, [int(LABELLED * len(rest))])

    def head(rows: np.ndarray):
        return regression.fit(features[rows], labels[rows], int(labels.max()) + 1, STRENGTH)

    def accuracy(chosen: np.ndarray) -> float:
        scores = head(np.concatenate([known, chosen])).logits(features[test])
        return float((scores.argmax(axis=1) == labels[test]).mean())

    ordered = np.sort(softmax(head(known).logits(features[others])), axis=1)
    margins, vectors = ordered[:, -1] - ordered[:, -2], unit(features[others])
    similarities = (vectors @ unit(features[known]).T).max(axis=1)
    least = np.argsort(margins)[:MOST]
    chosen = others[least[choose(margins[least], similarities[least], vectors[least], COUNT)]]
    random = [accuracy(generator.permutation(others)[:COUNT]) for _ in range(DRAWS)]
    return accuracy(np.empty(0, int)), float(np.mean(random)), accuracy(chosen)


if __name__ == "__main__":
    main()
