"""What a cluster needs to know of each step: its share of a node, its deadline, its secrets. kfp.local ignores it all.

Accelerators are no part of it. KFP fills a parameter into a pod's resources by its string value, and an integer's
string value is empty: `gpus: int` as an accelerator count would ask for none, silently. The training step starts its
workers as a Job, which asks for their CPU, memory and accelerators; the step itself only waits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from kfp import kubernetes
from kfp.dsl import PipelineConfig, PipelineTask

from components.artifacts import signature
from components.shared.parameters import dns_name

# Where a key file for Google's libraries is mounted; its Secret also holds this path (see manifests/base/storage).
GOOGLE_MOUNT = "/var/secrets/google"
SECRET_VARIABLES = {
    "store": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_REGION"),
    "google": ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"),
    # The Secret of whoever's API needs a key; named after the first.
    "flickr": ("FLICKR_API_KEY", "HARVARD_API_KEY", "EUROPEANA_API_KEY"),
    # With which models are signed; the server's pods get the public half, of the same Secret.
    "signing": (signature.PRIVATE_KEY,),
}


@dataclass(frozen=True)
class Settings:
    """The parameters that only a cluster reads. Raises ParameterError: a name would make an invalid pod."""

    secret_store: str
    secret_google: str
    secret_flickr: str
    secret_signing: str = "museum-classifier-signing"  # the pipeline that annotates signs nothing

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            # KFP names a volume after the Secret, and volumes have no dots in their names.
            dns_name(name, getattr(self, name), 63, f"museum-classifier-{name.partition('_')[2]}")


@dataclass(frozen=True)
class Needs:
    """Of one step: (request, limit) of CPU and memory, size of /tmp, hours until it is stopped, retries, secrets."""

    cpu: tuple[str, str]
    memory: tuple[str, str]
    disk: str
    hours: float
    retries: int
    secrets: tuple[str, ...] = ("store", "google")

    @property
    def seconds(self) -> int:
        """How long one attempt may take."""
        return int(self.hours * 3600)

    @property
    def retry_window(self) -> int:
        """Seconds in which all attempts have room, with the pauses between them."""
        return self.seconds * (self.retries + 1) + 3600


# Requests are small, so that everything fits two nodes of two CPUs; limits are what the step can use.
NEEDS = {
    "probe": Needs(("100m", "1"), ("128Mi", "1Gi"), "1Gi", 0.5, 2, ("store", "google", "flickr")),
    # One retry, for a museum's server or a store that is away; a mistake in the parameters meets it too.
    "query": Needs(("250m", "2"), ("512Mi", "4Gi"), "10Gi", 4, 1, ("store", "google", "flickr")),
    "fetch": Needs(("250m", "2"), ("512Mi", "2Gi"), "20Gi", 48, 3),
    "assemble": Needs(("250m", "2"), ("512Mi", "4Gi"), "10Gi", 4, 1),
    "tensorboard": Needs(("50m", "500m"), ("128Mi", "512Mi"), "1Gi", 0.5, 2, ("store",)),
    # It waits for the workers, and at the end measures and copies the model; /tmp is as large in the workers.
    "train": Needs(("100m", "2"), ("512Mi", "2Gi"), "50Gi", 24 * 7, 2),
    "evaluate": Needs(("250m", "4"), ("1Gi", "4Gi"), "20Gi", 12, 2),
    "annotate": Needs(("250m", "4"), ("512Mi", "4Gi"), "20Gi", 24, 2),
    "publish": Needs(("100m", "1"), ("512Mi", "4Gi"), "5Gi", 2, 1),
    "serve": Needs(("100m", "1"), ("256Mi", "1Gi"), "5Gi", 1, 1, ("store", "google", "signing")),
}


def run_config() -> PipelineConfig:
    """How long a run may take, and how long Argo keeps what is left of it: pods, their logs, the Workflow of 1 MB.

    Without it Argo's own settings hold: those of KFP 2.17 delete everything an hour after the end, and let a run wait
    for ever for a node that never comes. Nothing that serves, and no TensorBoard, belongs to a Workflow.
    """
    day = 24 * 3600
    return PipelineConfig(
        ttl_seconds_after_success=day,
        ttl_seconds_after_failure=7 * day,  # somebody may want to see why
        active_deadline_seconds=30 * day,  # all attempts of the longest step take 22
    )


def set_resources(task: PipelineTask, step: str, secrets: Mapping[str, object]) -> None:
    """Gives `task` what NEEDS says of `step`.

    Args:
        task: The task; its resources, deadline, scratch disk, user and secrets are set.
        step: Key of NEEDS.
        secrets: Names of the Secrets (strings or pipeline parameters): store, google, flickr, signing; none has to
            exist.
    """
    needs = NEEDS[step]
    task.set_cpu_request(needs.cpu[0]).set_cpu_limit(needs.cpu[1])
    task.set_memory_request(needs.memory[0]).set_memory_limit(needs.memory[1])
    # KFP sets what else Pod Security "restricted" asks for. The images' own numeric user is kept.
    kubernetes.set_security_context(task, run_as_non_root=True)
    kubernetes.set_timeout(task, needs.seconds)
    # The root file system may be read-only, so /tmp is a volume; a step that overfills it is evicted, not the node.
    kubernetes.empty_dir_mount(task, "tmp", "/tmp", size_limit=needs.disk)
    for name in needs.secrets:
        # BigQuery's alone. Each variable is in the Workflow eight times over: tests/workflow_size.py.
        unused = () if step in ("probe", "query") else ("GOOGLE_CLOUD_PROJECT",)
        variables = {variable: variable for variable in SECRET_VARIABLES[name] if variable not in unused}
        kubernetes.use_secret_as_env(task, secrets[name], variables, optional=True)
    if "google" in needs.secrets:
        kubernetes.use_secret_as_volume(task, secrets["google"], GOOGLE_MOUNT, optional=True)
