"""The head of a pre-trained network, as an expert would make it before anything is fine-tuned.

A logistic regression on frozen features. What is read of the network (its last layer, or the stages too), what it is
shown (the centre, the whole image, the mean with the mirror image) and whether rare classes weigh more is decided by
cross-validation over training and validation split together; the test split is not touched. The regression that goes
on is fitted on both; its accuracy is told by the one that was fitted on the training split alone.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from components.artifacts import embeddings
from components.shared.calibration import negative_log_likelihood
from components.train import models
from components.train.settings import AUTO, Settings
from components.train.worker import regression
from components.train.worker.features import Features, Sight
from components.train.worker.regression import Head, Path
from components.train.worker.session import Session

# Of more examples than this a random part decides; the regression is fitted on all of them.
DECIDING = 10_000
_BOOTSTRAPS = 200
# Standard errors by which a second pass has to be better: of 345 paintings two folds of three reached 1 by chance.
_COSTLY = 2.0


@dataclass(frozen=True)
class Choice:
    """What is read of the network, what it is shown, and how the regression is fitted."""

    reading: models.Reading
    view: str = "center"
    class_weights: bool = False
    strength: float = 1.0


@dataclass(frozen=True)
class Probe:
    """The outcome.

    Attributes:
        choice: what was decided.
        trained: the regression on the training split, `final` that on both splits.
        validation: [n, classes] logits of `trained` for the validation split.
        held_out: [n, classes] cross-validated logits for the examples with `held_out_labels` [n], of both splits.
        train: accuracy and loss of `trained` on its own split.
        tried: cross-validated accuracy of each alternative, by its name, in the order in which they were compared.
        nearest: [n] bool, for the validation split: whether the nearest training example, by cosine, has the label.
        features: [n, width] float16 that `final` was fitted on: training split, then validation split.
    """

    choice: Choice
    trained: Head
    final: Head
    validation: np.ndarray
    held_out: np.ndarray
    held_out_labels: np.ndarray
    train: tuple[float, float]
    nearest: np.ndarray
    features: np.ndarray
    tried: dict[str, float] = field(default_factory=dict)

    def accuracy(self, labels: np.ndarray) -> float:
        """Of `trained` on the validation split with these labels [n]."""
        return float((self.validation.argmax(axis=1) == labels).mean())


def fit(session: Session, features: Features) -> Probe:
    """Decides and fits; the same on every worker.

    Raises:
        PipelineError: the features say nothing, or a class has no training examples.
        Preempted: a worker was asked to stop.
    """
    trials = _Trials(session, features)
    regression.check(trials.read(Choice(models.Reading()), deciding=True), session.train.labels, session.info.labels)
    choice, path = trials.decide(session.settings)
    labels, count = session.train.labels, len(session.train)
    features_read = trials.read(choice)
    train, validation = features_read[:count], features_read[count:]
    trained = trials.fitted(choice, count)
    logits = trained.logits(train)
    return Probe(
        choice=choice,
        trained=trained,
        final=trials.fitted(choice, len(trials.labels)),
        validation=trained.logits(validation),
        held_out=path.logits[path.best()],
        held_out_labels=path.labels,
        train=(float((logits.argmax(axis=1) == labels).mean()), negative_log_likelihood(logits, labels)),
        nearest=nearest(train, labels, validation) == session.validation.labels,
        features=_on_disk(features_read, session.folder),
        tried=trials.tried,
    )


def _on_disk(values: np.ndarray, folder: str) -> np.ndarray:
    """`values` [n, width] as float16 in a file without a name in `folder`: they are not needed before the export."""
    with tempfile.TemporaryFile(dir=folder) as file:
        kept = np.memmap(file, np.float16, "w+", shape=values.shape)
    for first in range(0, len(values), regression.CHUNK):
        part = values[first : first + regression.CHUNK]
        kept[first : first + len(part)] = embeddings.unit(part)
    return kept


def nearest(train: np.ndarray, labels: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """[n]: for each of `queries` [n, width] the label of the row of `train` that is nearest by cosine."""
    known = train / np.maximum(np.linalg.norm(train, axis=1, keepdims=True), 1e-12)
    parts = [(known @ part.T).argmax(axis=0) for part in np.array_split(queries, max(1, len(queries) // 1024))]
    return labels[np.concatenate(parts)]


def better(hits: np.ndarray, than: np.ndarray, errors: float = 1.0) -> bool:
    """Whether more of `hits` [n] bool are right, by more than so many standard errors of the paired difference."""
    gain = hits.astype(float) - than.astype(float)
    return bool(gain.mean() > errors * gain.std() / np.sqrt(len(gain)))


class _Trials:
    """Features of training and validation split by what is read and shown, and the accuracies that decide."""

    def __init__(self, session: Session, features: Features) -> None:
        self._session, self._features = session, features
        self._last = models.last_width(session.network.base, session.entry.card)
        self.labels = np.concatenate([session.train.labels, session.validation.labels])
        generator = np.random.default_rng(session.settings.seed)
        self._deciding = np.sort(generator.permutation(len(self.labels))[:DECIDING])
        self._all_decide = len(self._deciding) == len(self.labels)
        self.tried: dict[str, float] = {}
        self._kept: dict[tuple[Sight, bool], np.ndarray] = {}

    def read(self, choice: Choice, deciding: bool = False) -> np.ndarray:
        """[n, width]: the features by `choice` of all examples, or of those that decide."""
        values = self._of(Sight(choice.view), deciding)
        if choice.reading.flip:
            values = (values + self._of(Sight(choice.view, mirrored=True), deciding)) / 2
        return values if choice.reading.stages else values[:, : self._last]

    def fitted(self, choice: Choice, count: int) -> Head:
        """The regression by `choice` on the first `count` examples."""
        labels, classes = self.labels[:count], self._session.classes
        weights = regression.balanced_weights(labels, classes) if choice.class_weights else None
        return regression.fit(self.read(choice)[:count], labels, classes, choice.strength, weights)

    def decide(self, settings: Settings) -> tuple[Choice, Path]:
        """The choice and its cross-validation; what a parameter names is not compared."""
        choice, path = self._blocks(Choice(models.Reading(), "whole" if settings.view == "whole" else "center"))
        auto, mirrored = settings.view == AUTO, settings.view == "mirrored"
        if auto:
            choice, path = self._try("the whole image", replace(choice, view="whole"), choice, path, better)
        if auto or mirrored:
            both = replace(choice, reading=replace(choice.reading, flip=True))
            clearly = _always if mirrored else partial(better, errors=_COSTLY)
            choice, path = self._try("mean with the mirror image", both, choice, path, clearly)
        if settings.balance != "sampling":
            weighted = replace(choice, class_weights=True)
            judge = _always if settings.balance == "weights" else None
            choice, path = self._try("rare classes weigh more", weighted, choice, path, judge)
        return replace(choice, strength=path.strengths[path.best()]), path

    def _blocks(self, choice: Choice) -> tuple[Choice, Path]:
        """Whether the stages are read: they cost next to nothing, so they need not be better by much."""
        path = self._compare("last layer", choice)
        if self._session.reading is None or not self._session.reading.stages:
            return choice, path
        stages = replace(choice, reading=models.Reading(stages=True))
        return self._try("last layer and stages", stages, choice, path, _not_worse)

    def _try(self, name: str, other: Choice, choice: Choice, path: Path, judge) -> tuple[Choice, Path]:
        """`other` with its path if `judge` takes it (None: it has a better macro F1 and no worse accuracy)."""
        best = regression.STRENGTHS.index(path.strengths[path.best()])
        tried = self._compare(name, other, regression.STRENGTHS[max(best - 1, 0) : best + 2])
        if judge is None:
            takes = _macro_f1_rises(tried, path) and not better(_hits(path), _hits(tried))
        else:
            takes = judge(_hits(tried), _hits(path))
        return (other, tried) if takes else (choice, path)

    def _compare(self, name: str, choice: Choice, strengths: Sequence[float] = regression.STRENGTHS) -> Path:
        labels, classes = self.labels[self._deciding], self._session.classes
        path = regression.cross_validate(
            self.read(choice, deciding=True),
            labels,
            classes,
            strengths,
            weights=regression.balanced_weights(labels, classes) if choice.class_weights else None,
            seed=self._session.settings.seed,
        )
        self.tried[name] = float(_hits(path).mean())
        print(f"probe, {name}: {self.tried[name]:.4f} right, cross-validated", flush=True)
        self._session.stop.check("choosing the head")
        return path

    def _of(self, sight: Sight, deciding: bool) -> np.ndarray:
        """Where only a part decides, nothing is computed of the others for what is not chosen."""
        deciding = deciding and not self._all_decide
        if (sight, deciding) not in self._kept:
            splits = {"train": self._session.train, "validation": self._session.validation}
            if deciding:
                count = len(self._session.train)
                train, validation = (self._deciding[self._deciding < count], self._deciding[self._deciding >= count])
                splits = {
                    "train-deciding": splits["train"].subset(train),
                    "validation-deciding": splits["validation"].subset(validation - count),
                }
            values = [self._features.of(name, examples, sight) for name, examples in splits.items()]
            self._kept[sight, deciding] = np.concatenate(values)
        return self._kept[sight, deciding]


def _always(hits: np.ndarray, than: np.ndarray) -> bool:
    return True


def _not_worse(hits: np.ndarray, than: np.ndarray) -> bool:
    return bool(hits.mean() >= than.mean())


def _hits(path: Path) -> np.ndarray:
    return path.logits[path.best()].argmax(axis=1) == path.labels


def _macro_f1_rises(path: Path, than: Path) -> bool:
    """Whether macro F1 is higher by more than the bootstrap's standard error of the difference."""
    answers = [each.logits[each.best()].argmax(axis=1) for each in (path, than)]
    labels, generator = path.labels, np.random.default_rng(0)
    draws = [generator.integers(0, len(labels), len(labels)) for _ in range(_BOOTSTRAPS)]
    gains = [_macro_f1(answers[0][d], labels[d]) - _macro_f1(answers[1][d], labels[d]) for d in draws]
    return bool(_macro_f1(answers[0], labels) - _macro_f1(answers[1], labels) > np.std(gains))


def _macro_f1(answers: np.ndarray, labels: np.ndarray) -> float:
    classes = int(max(answers.max(), labels.max())) + 1
    right = np.bincount(labels[answers == labels], minlength=classes)
    either = np.bincount(labels, minlength=classes) + np.bincount(answers, minlength=classes)
    return float((2 * right[either > 0] / either[either > 0]).mean())
