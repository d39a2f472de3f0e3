"""Parameters of the serve step, checked before any work."""

from dataclasses import dataclass

from components.shared.parameters import between, choice, dns_name, refuse

KINDS = ("deployment", "kserve")
# Kubernetes appends to it in the names of pods, which take 63 characters.
_LONGEST_NAME = 40
_MOST_REPLICAS = 1000
# A canary's share is made of whole pods, and nobody wants a hundred of them for one percent.
MOST_CANARY_PODS = 20


@dataclass(frozen=True)
class Settings:
    """How to deploy; checked when made.

    Attributes:
        kind: one of KINDS.
        name: name of the Kubernetes Service, and of the model in the protocols.
        server_image: the server's image.
        replicas: pods of the version in service.
        canary_percent: share of the traffic for the new version; 0 or 100 for all of it.
        run_created: when the run was created, as ISO 8601: of two that deploy under one name the newer one wins.
    """

    kind: str
    name: str
    server_image: str
    replicas: int
    canary_percent: int
    run_created: str = ""

    def __post_init__(self) -> None:
        choice("kind", self.kind, KINDS)
        dns_name("name", self.name, _LONGEST_NAME, "museum-classifier")
        if self.name[0].isdigit():
            raise refuse("name", self.name, "the name of a Service begins with a letter")
        between("replicas", self.replicas, 1, _MOST_REPLICAS)
        between("canary_percent", self.canary_percent, 0, 100)
        if self.kind == "deployment" and self.canary_percent % 100:
            self._check_canary()

    def _check_canary(self) -> None:
        most = max(MOST_CANARY_PODS - self.replicas, self.replicas)  # new pods, beside all of the old ones
        if self.canary_percent * (self.replicas + most) > 100 * most:
            use = f"beside replicas={self.replicas} that takes more than {most} new pods"
            percent = 100 * most // (self.replicas + most)
            raise refuse("canary_percent", self.canary_percent, f"{use}; use at most {percent}, or 100 for all at once")


@dataclass(frozen=True)
class SmokeResult:
    """How many `pictures` were answered as in the evaluation, how many of them rightly, and the median time."""

    pictures: int
    right: int
    median_milliseconds: float

    def __str__(self) -> str:
        return (
            f"{self.pictures} test pictures answered as in the evaluation ({self.right} rightly), "
            f"{self.median_milliseconds:.0f} ms each"
        )
