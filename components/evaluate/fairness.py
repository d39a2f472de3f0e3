"""What makes a comparison with the champion uneven, in words for the one who reads its verdict."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from components.artifacts.dataset import DatasetInfo

# Which object is on which side depends on these parameters of the query step alone.
SPLIT_PARAMETERS = ("seed", "group", "folds", "fold", "test_fraction", "validation_fraction")
_LEARNED = "the champion may have learned from these test pictures"


def caveats(card: dict[str, Any], info: DatasetInfo) -> list[str]:
    """Why the champion, of which `card` is the model card, may be better or worse on these images than in service."""
    return [*_split(card, info), *_size(card, info)]


def label_caveats(
    known: Sequence[str], labels: Sequence[str], targets: np.ndarray, new: np.ndarray, old: np.ndarray
) -> list[str]:
    """What different labels do to the comparison.

    Args:
        known: The champion's labels; labels: those of the data set.
        targets, new, old: [n] class indexes (of `labels`): the truth, and what the new model and the champion answer.
    """
    lacking = [index for index, label in enumerate(labels) if label not in known]
    additional = [label for label in known if label not in labels]
    found = []
    if lacking:
        shared = ~np.isin(targets, lacking)
        text = f"the champion does not know {named([labels[i] for i in lacking])} and is wrong there"
        if shared.any():
            accuracies = [float((answers == targets)[shared].mean()) for answers in (new, old)]
            text += " (on the other classes: accuracy {:.3f} now, {:.3f} the champion's)".format(*accuracies)
        found.append(text)
    if additional:
        found.append(f"the champion also knows {named(additional)}, which this model can no longer answer")
    return found


def named(names: Sequence[str]) -> str:
    """The first five of `names`, and how many there are beside."""
    shown = ", ".join(repr(name) for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _split(card: dict[str, Any], info: DatasetInfo) -> list[str]:
    now = {name: info.parameters[name] for name in SPLIT_PARAMETERS if name in info.parameters}
    then = card.get("data", {}).get("parameters", {})
    if not now:
        return []
    differing = [name for name in now if name in then and then[name] != now[name]]
    if differing:
        changes = ", ".join(f"{name}={then[name]} then, {now[name]} now" for name in differing)
        return [f"{_LEARNED}: its data were split by {changes}"]
    return [] if set(now) <= set(then) else [f"{_LEARNED}: its model card does not say how its data were split"]


def _size(card: dict[str, Any], info: DatasetInfo) -> list[str]:
    if card["stored_size"] <= info.stored_size:
        return []
    return [
        f"the champion was trained on pictures of {card['stored_size']} pixels and sees these, of {info.stored_size}, "
        "enlarged: it may be better in service than here"
    ]
