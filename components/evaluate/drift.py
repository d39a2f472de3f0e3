"""Whether the images that come in still look like those the model was tested on.

Each server keeps a rolling histogram of its answers; the evaluation left the same histogram of the test split. Neither
needs the images, nor their true labels. Both name the version of the model, since another one answers otherwise.
"""

import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from scipy.stats import chi2

from components.artifacts import predictions
from components.shared.errors import PipelineError
from components.shared.stability import population_stability_index

# Conventional reading of the population stability index: below 0.1 nothing, from 0.25 on a major shift.
NOTICEABLE, MAJOR = 0.1, 0.25
SIGNIFICANCE = 0.01
MIN_WINDOW = 100
_TIMEOUT = 10


@dataclass(frozen=True)
class Shift:
    """One distribution beside its reference: population stability index, and the p-value of a test of equality."""

    name: str
    psi: float
    p_value: float

    @property
    def standing(self) -> str:
        """none, noticeable or major; a shift that chance explains is none, however large the index."""
        if self.p_value >= SIGNIFICANCE or self.psi < NOTICEABLE:
            return "none"
        return "major" if self.psi >= MAJOR else "noticeable"


@dataclass(frozen=True)
class DriftReport:
    """The outcome of a check.

    Attributes:
        window: predictions in the server's histogram, since the time `since`.
        shifts: of the predicted classes and of the confidence.
        movers: (label, share in the test split, share now), the largest change first.
        confidence: mean confidence on the test split and now.
        refused: why the evaluation refused the reference's model; empty if it passed.
        due: whether retraining (or a look at the images) is due; None if the window is too small to say.
    """

    service: str
    since: str
    window: int
    shifts: tuple[Shift, ...]
    movers: tuple[tuple[str, float, float], ...]
    confidence: tuple[float, float]
    due: bool | None
    refused: str = ""

    def __str__(self) -> str:
        if self.due is None:
            return f"{self.window} predictions since {self.since} are too few to tell: at least {MIN_WINDOW} are needed"
        lines = [f"{self.window} predictions since {self.since}, compared with the test split:"]
        lines += [
            f"  {shift.name}: {shift.standing} shift (PSI {shift.psi:.3f}, p {_p_text(shift.p_value)})"
            for shift in self.shifts
        ]
        lines.append(f"  mean confidence {self.confidence[0]:.3f} then, {self.confidence[1]:.3f} now")
        lines += [f"  {label}: {100 * then:.1f} % then, {100 * now:.1f} % now" for label, then, now in self.movers[:5]]
        due = "retraining is due: the pictures differ from those the model was tested on"
        lines.append(due if self.due else "no drift that calls for retraining")
        return "\n".join(lines)


def check(services: list[str], reference: str) -> DriftReport:
    """Compares the histograms of the servers at the URLs `services`, added up, with the one in `reference`.

    Args:
        services: addresses of the servers: one for each pod, since a pod knows its own answers only; with more than
            one model on a server, that of the model (`.../v1/models/<name>`).
        reference: `reference.json`, or the folder that the evaluation wrote it to, as a path or URI.

    Raises:
        PipelineError: a server does not answer, one of them is no histogram, or they are of different models.
    """
    then = predictions.read_reference(reference)
    return compare(", ".join(services), then, total({service: fetch(service) for service in services}))


def total(histograms: dict[str, dict]) -> dict:
    """The histograms of several servers, by their address, as one.

    Raises:
        PipelineError: they serve different models.
    """
    (first, found), *others = histograms.items()
    for service, other in others:
        if _field(other, "version", service) != _field(found, "version", first):
            raise PipelineError(f"{first} serves {found['version']} and {service} {other['version']}: ask one version")
        labels = list(found["predictions"] | other["predictions"])
        starts = [part["since"] for part in (found, other) if part["since"] is not None]
        found = found | {
            "since": min(starts, default=None),
            "predictions": {label: _count(found, label) + _count(other, label) for label in labels},
            "confidence": np.add(found["confidence"], other["confidence"]).tolist(),
            "window": found["window"] + other["window"],
        }
    return found


def compare(service: str, then: dict, now: dict) -> DriftReport:
    """Compares two of `predictions.histogram`; `then` names `versions`, `now` its `version` and `since`.

    Raises:
        PipelineError: they are of different models, or no histograms.
    """
    version, known = _field(now, "version", service), _field(then, "versions", "the reference")
    if not version or not any(digest.startswith(version) for digest in known):
        names = " or ".join(digest[:12] for digest in known)
        raise PipelineError(
            f"{service} serves {version}, but the reference is of {names}: give that model's evaluation"
        )
    labels = list(_field(then, "predictions", "the reference"))
    _field(now, "predictions", service)
    classes = [np.array([_count(part, label) for label in labels], float) for part in (then, now)]
    sureness = [np.array(_field(part, "confidence", service), float) for part in (then, now)]
    if len(sureness[0]) != len(sureness[1]):
        bins = " and ".join(str(len(counts)) for counts in sureness)
        raise PipelineError(f"the reference and {service} count confidence in {bins} bins: are both of this version?")
    window = int(classes[1].sum())
    shifts: tuple[Shift, ...] = ()
    movers: tuple[tuple[str, float, float], ...] = ()
    if window:
        shifts = (shift("predicted classes", *classes), shift("confidence", *sureness))
        shares = [counts / counts.sum() for counts in classes]
        order = np.argsort(-np.abs(shares[1] - shares[0]), kind="stable")
        moved = [(labels[i], float(shares[0][i]), float(shares[1][i])) for i in order]
        movers = tuple(row for row in moved if row[1] != row[2])
    due = any(part.standing == "major" for part in shifts) if window >= MIN_WINDOW else None
    means = (_mean(sureness[0]), _mean(sureness[1]))
    refused = str(then.get("refused", ""))
    return DriftReport(service, _time(now.get("since")), window, shifts, movers, means, due, refused)


def shift(name: str, then: np.ndarray, now: np.ndarray) -> Shift:
    """Compares [k] counts: the population stability index and a chi-square test of homogeneity.

    Cells that neither has are left out. Source of the test: Pearson (1911).
    """
    psi = population_stability_index(then, now)
    kept = then + now > 0
    then, now = then[kept], now[kept]
    total = np.stack([then, now])
    expected = total.sum(axis=1, keepdims=True) * total.sum(axis=0) / total.sum()
    statistic = float(((total - expected) ** 2 / expected).sum())
    return Shift(name, psi, float(chi2.sf(statistic, len(then) - 1)) if len(then) > 1 else 1.0)


def fetch(service: str) -> dict:
    """The rolling histogram of a running server. Raises PipelineError."""
    address = service.rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise PipelineError(f"{service} is not the address of a service: give http://host:port")
    if "/v1/models/" not in address:
        name = _request(f"{address}/v1/models")["models"][0]
        address = f"{address}/v1/models/{urllib.parse.quote(name)}"
    return _request(f"{address}/histogram")


def _request(address: str) -> dict:
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise PipelineError(f"{address} answers {error.code}: is it a server of this project?") from error
    except (OSError, ValueError) as error:
        cause = getattr(error, "reason", error)
        raise PipelineError(f"cannot ask {address}: {cause}; is the service running?") from error


def _field(part: dict, name: str, where: str):
    if not isinstance(part, dict) or name not in part:
        raise PipelineError(f"the histogram of {where} has no {name!r}: is it from this version of the project?")
    return part[name]


def _count(part: dict, label: str) -> int:
    return part["predictions"].get(label, 0)


def _mean(counts: np.ndarray) -> float:
    middles = (np.arange(len(counts)) + 0.5) / len(counts)
    return float(counts @ middles / max(counts.sum(), 1))


def _time(seconds: float | None) -> str:
    """Seconds since 1970 as the server gives them, or None if it has seen nothing, as text."""
    if seconds is None:
        return "its start"
    return datetime.fromtimestamp(seconds, UTC).isoformat(" ", "seconds").replace("+00:00", " UTC")


def _p_text(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.2g}"
