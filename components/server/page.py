"""The page for people: what it says of a model, and its template."""

from pathlib import Path
from typing import Any

import jinja2

from components.artifacts.classifier import Classifier

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
_templates = jinja2.Environment(loader=jinja2.FileSystemLoader(FOLDER / "templates"), autoescape=True)


def render(classifier: Classifier, name: str, test_accuracy: float | None, engine: str, **further: Any) -> str:
    """The page as HTML.

    Args:
        name: the model's, as the protocols call it.
        test_accuracy: share of the test images that the model had right; None if it is not known.
        engine: what runs the model.
        further: `served`, what a server says of itself, or `web`, what an exported page needs; see page.html.
    """
    return _templates.get_template("page.html").render(
        name=name,
        labels=classifier.labels,
        card=classifier.card,
        facts=_facts(classifier, test_accuracy),
        origin=_origin(classifier, engine),
        **further,
    )


def _facts(classifier: Classifier, test_accuracy: float | None) -> list[tuple[str, str]]:
    """What the model card says, as the page shows it; what a card lacks is left out."""
    card = classifier.card
    data = card.get("data", {})
    examples, parameters = data.get("examples_train"), data.get("parameters", {})
    facts = [
        ("classes", f"{len(classifier.labels):,}"),
        *_accuracy(card, test_accuracy),
        ("label", str(parameters.get("label", ""))),
        ("source", " ".join(str(parameters.get(name, "")).rpartition("/")[2] for name in ("source", "table")).strip()),
        ("pictures learned from", f"{examples:,}" if examples else ""),
        ("date of training", str(card.get("created", ""))[:10]),
    ]
    return [(name, value) for name, value in facts if value]


def _origin(classifier: Classifier, engine: str) -> str:
    """What tells this model from others, in one line for those who look after it."""
    card = classifier.card
    parts = {
        "Architecture": card.get("parameters", {}).get("model", ""),
        "data set": str(card.get("snapshot", ""))[:12],
        "version": classifier.digest[:12],
        "engine": engine,
    }
    return " · ".join(f"{name} {value}" for name, value in parts.items() if value)


def _accuracy(card: dict, test_accuracy: float | None) -> list[tuple[str, str]]:
    """The accuracy on the test split, or else on the validation split, under a name that says which."""
    metrics = card.get("metrics", {})
    measured = {
        "test": metrics.get("test_accuracy") if test_accuracy is None else test_accuracy,
        "validation": metrics.get("validation_accuracy"),
    }
    for split, share in measured.items():
        if share is not None:
            pictures = card.get("data", {}).get(f"examples_{split}")
            number = f"{pictures:,} {split}" if pictures else split
            return [(f"accuracy, {number} pictures", f"{share * 100:.1f}\u00a0%")]
    return []
