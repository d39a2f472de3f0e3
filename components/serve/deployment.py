"""Parameters of the serve step, checked before any work."""

import re
from dataclasses import dataclass

from components.shared.errors import PipelineError

SERVING = ("deployment", "kserve")
# A DNS label, short enough that Kubernetes can append what it appends to the name of a pod.
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(frozen=True)
class Settings:
    """How to deploy; checked when made.

    Attributes:
        serving: one of SERVING.
        service: name of the Kubernetes Service, and of the model in the protocols.
        server_image: the server's image.
        replicas: pods of the version in service.
        canary_percent: share of the traffic for the new version; 0 or 100 for all of it.
    """

    serving: str
    service: str
    server_image: str
    replicas: int
    canary_percent: int

    def __post_init__(self) -> None:
        if self.serving not in SERVING:
            raise PipelineError(f"serving={self.serving} is not possible; there are {', '.join(SERVING)}")
        if not _NAME.fullmatch(self.service):
            raise PipelineError(
                f"service={self.service} is no name for a Service: a-z, 0-9 and -, at most 40 characters"
            )
        if self.replicas < 1:
            raise PipelineError(f"replicas={self.replicas} is not possible: at least 1")
        if not 0 <= self.canary_percent <= 100:
            raise PipelineError(f"canary_percent={self.canary_percent} is not possible: 0 to 100")
