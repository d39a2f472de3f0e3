"""What each training worker asks a cluster for, checked before anything runs."""

import dataclasses
import re
from dataclasses import dataclass

from components.shared.errors import PipelineError

_SUFFIXES = {"m": 1e-3, "": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_SUFFIXES |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|[kMGT]|[KMGT]i)?")


@dataclass(frozen=True)
class Settings:
    """CPUs and memory of one worker as Kubernetes writes them (500m, 4, 8Gi); empty for the namespace's default.

    Raises:
        PipelineError: one is no quantity, or a request is above its limit, which the cluster would refuse.
    """

    train_cpu_request: str = ""
    train_cpu_limit: str = ""
    train_memory_request: str = ""
    train_memory_limit: str = ""

    def __post_init__(self) -> None:
        for kind, example in (("cpu", "500m or 4"), ("memory", "512Mi or 8Gi")):
            request, limit = (self._amount(f"train_{kind}_{end}", example) for end in ("request", "limit"))
            if request and limit and request > limit:
                raise PipelineError(
                    f"train_{kind}_request={self.get(kind, 'request')} is above train_{kind}_limit="
                    f"{self.get(kind, 'limit')}: raise the limit too"
                )

    def get(self, kind: str, end: str) -> str:
        """The quantity of `kind` (cpu, memory) at `end` (request, limit)."""
        return getattr(self, f"train_{kind}_{end}")

    def container(self) -> dict[str, dict[str, str]]:
        """`resources` of a container: requests and limits, without what is left empty."""
        found = {
            f"{end}s": {kind: self.get(kind, end) for kind in ("cpu", "memory") if self.get(kind, end)}
            for end in ("request", "limit")
        }
        return {end: amounts for end, amounts in found.items() if amounts}

    def _amount(self, name: str, example: str) -> float | None:
        text = dataclasses.asdict(self)[name]
        if not text:
            return None
        match = _QUANTITY.fullmatch(text)
        if not match or (match[2] == "m" and "memory" in name):
            raise PipelineError(f"{name}={text} is no Kubernetes quantity: write something like {example}")
        return float(match[1]) * _SUFFIXES[match[2] or ""]
