"""Parameters of the annotate step, checked before any work."""

from dataclasses import dataclass

from components.artifacts.served import PREFIX, in_service_named
from components.shared.errors import PipelineError
from components.shared.parameters import between, dns_name, refuse


@dataclass(frozen=True)
class Settings:
    """Parameters of the step.

    Attributes:
        model: the classifier: its folder or URI, or service:NAME for the one that a service now serves.
        coverage: how often the set of labels that cannot be excluded holds the truth.

    Raises:
        ParameterError: a value is not allowed.
    """

    model: str
    coverage: float = 0.9

    def __post_init__(self) -> None:
        between("coverage", self.coverage, 0.01, 0.999)
        if not self.model.strip():
            raise refuse("model", self.model, "give the model's folder or URI, or service:NAME")
        if self.model.startswith(("http://", "https://")):
            raise refuse("model", self.model, "it is a web address; give a folder, a URI (s3, gs) or service:NAME")
        if self.model.startswith(PREFIX):
            dns_name("model=service", self.model.removeprefix(PREFIX).strip(), 63, "service:museum-classifier")

    def located(self) -> str:
        """The model's folder or URI. Raises PipelineError: the service serves none, or cannot be looked up."""
        if not self.model.startswith(PREFIX):
            return self.model
        uri = in_service_named(self.model)
        if not uri:
            raise PipelineError(
                f"model={self.model}: no such service serves a model; python pipeline.py status lists them"
            )
        return uri
