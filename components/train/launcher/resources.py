"""What each training worker asks a cluster for, checked before anything runs."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.shared.parameters import dns_name, refuse

_SUFFIXES = {"m": 1e-3, "": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_SUFFIXES |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
# A limit below is a slip, such as 8 (bytes) for 8Gi: TensorFlow alone takes half a gigabyte.
_LEAST = {"train_memory_limit": 2**29, "train_cpu_limit": 0.01}
_QUANTITY = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)(m|[kMGT]|[KMGT]i)?", re.ASCII)


@dataclass(frozen=True)
class Resources:
    """CPUs and memory of one worker as Kubernetes writes them (500m, 4, 8Gi); empty for the namespace's default.

    `train_queue` is the LocalQueue of Kueue in which the workers' Job waits for room; empty for none.

    Raises:
        ParameterError: one is no quantity, a limit is less than TensorFlow needs, a request is above its limit, which
            the cluster would refuse, or the queue's name cannot be one.
    """

    train_cpu_request: str
    train_cpu_limit: str
    train_memory_request: str
    train_memory_limit: str
    train_queue: str = ""

    @classmethod
    def of(cls, run: Mapping[str, Any]) -> "Resources":
        """Those among the parameters of a run; the namespace's default where it tells none."""
        return cls(**{name: run.get(name, "") for name in cls.__annotations__})

    def __post_init__(self) -> None:
        if self.train_queue:
            dns_name("train_queue", self.train_queue, 63, "team-a")
        for kind, example in (("cpu", "500m or 4"), ("memory", "512Mi or 8Gi")):
            request, limit = (self._amount(f"train_{kind}_{end}", example) for end in ("request", "limit"))
            if request is not None and limit is not None and request > limit:
                use = f"it is above train_{kind}_limit={self.get(kind, 'limit')}; raise the limit too"
                raise refuse(f"train_{kind}_request", self.get(kind, "request"), use)

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
            raise refuse(name, text, f"it is no Kubernetes quantity; write something like {example}")
        amount = float(match[1]) * _SUFFIXES[match[2] or ""]
        if name in _LEAST and amount < _LEAST[name]:
            raise refuse(name, text, f"no training fits into it; write something like {example}")
        return amount
