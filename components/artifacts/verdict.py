"""What the evaluation said of a classifier, in a file beside it: so it travels with the model wherever it is copied."""

import json
from dataclasses import asdict, dataclass

from components.shared.errors import PipelineError
from components.shared.storage import storage

FILE_NAME = "verdict.json"


@dataclass(frozen=True)
class Verdict:
    """Whether a classifier passed, and why: one sentence per rule; and what to keep in mind about the comparison."""

    passed: bool
    reasons: tuple[str, ...]
    caveats: tuple[str, ...] = ()

    def __str__(self) -> str:
        caveats = "".join(f"; but note: {caveat}" for caveat in self.caveats)
        return f"{'passed' if self.passed else 'refused'}: {'; '.join(self.reasons)}{caveats}"

    def save(self, classifier: str) -> None:
        """Writes it into the folder or URI of the classifier. Raises StorageError."""
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False)
        storage.write_bytes(storage.join(classifier, FILE_NAME), text.encode())


def load(classifier: str) -> Verdict | None:
    """The verdict on the classifier in a folder or at a URI; None if it was never evaluated.

    Raises:
        PipelineError: the file cannot be read, or is none.
    """
    uri = storage.join(classifier, FILE_NAME)
    if not storage.exists(uri):
        return None
    try:
        found = json.loads(storage.read_bytes(uri))
        return Verdict(bool(found["passed"]), tuple(found["reasons"]), tuple(found["caveats"]))
    except (ValueError, KeyError, TypeError) as error:
        raise PipelineError(f"{uri} is no verdict of the evaluate step ({error}): evaluate the model again") from error


def refusal(classifier: str) -> str:
    """Why the evaluation refused the classifier; empty if it passed or was never evaluated. Raises PipelineError."""
    found = load(classifier)
    return "" if found is None or found.passed else "; ".join(found.reasons)
