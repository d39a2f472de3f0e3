"""What a cluster needs to know of each step: its share of a node, its deadline, its secrets. kfp.local ignores it all.

Accelerators are no part of it. KFP fills a parameter into a pod's resources by its string value, and an integer's string
value is empty: `gpus: int` as an accelerator count would ask for none, silently. The training step therefore starts
its workers as a Job of its own whenever `gpus` is above 0, and that Job asks for them; the step itself only waits.
"""

from dataclasses import dataclass

from kfp import kubernetes
from kfp.dsl import PipelineTask

# Where a key file for Google's libraries is mounted; its Secret also holds this path (see manifests/base/storage).
GOOGLE_MOUNT = "/var/secrets/google"
SECRET_VARIABLES = {
    "store": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_REGION"),
    "google": ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"),
    "flickr": ("FLICKR_API_KEY",),
}


@dataclass(frozen=True)
class Needs:
    """Of one step: (request, limit) of CPU and memory, the size of /tmp, hours until it is stopped, retries, secrets."""

    cpu: tuple[str, str]
    memory: tuple[str, str]
    disk: str
    hours: float
    retries: int
    secrets: tuple[str, ...] = ("store", "google")


# Requests are small, so that everything fits two nodes of two CPUs; limits are what the step can use.
NEEDS = {
    "probe": Needs(("100m", "1"), ("128Mi", "1Gi"), "1Gi", 0.5, 2, ("store", "google", "flickr")),
    "query": Needs(("250m", "2"), ("512Mi", "4Gi"), "10Gi", 4, 2, ("store", "google", "flickr")),
    "fetch": Needs(("250m", "2"), ("512Mi", "2Gi"), "20Gi", 48, 3),
    "convert": Needs(("250m", "2"), ("512Mi", "2Gi"), "20Gi", 12, 3),
    "assemble": Needs(("250m", "2"), ("512Mi", "4Gi"), "10Gi", 4, 2),
    "tensorboard": Needs(("50m", "500m"), ("128Mi", "512Mi"), "1Gi", 0.5, 2, ()),
    "train": Needs(("500m", "4"), ("2Gi", "6Gi"), "50Gi", 24 * 7, 3),
    "evaluate": Needs(("250m", "4"), ("1Gi", "4Gi"), "20Gi", 12, 2),
    "serve": Needs(("100m", "1"), ("256Mi", "1Gi"), "5Gi", 1, 1),
}


def fit(task: PipelineTask, step: str, secrets: dict[str, object], cpu=None, memory=None) -> None:
    """Gives `task` what NEEDS says of `step`.

    Args:
        task: The task; its resources, deadline, scratch disk and secrets are set.
        step: Key of NEEDS.
        secrets: Names of the Secrets (strings or pipeline parameters): store, google, flickr. None of them has to exist.
        cpu: (request, limit) instead of the step's own, as strings or pipeline parameters of type str.
        memory: The same for memory.
    """
    needs = NEEDS[step]
    cpu_request, cpu_limit = cpu or needs.cpu
    memory_request, memory_limit = memory or needs.memory
    task.set_cpu_request(cpu_request).set_cpu_limit(cpu_limit)
    task.set_memory_request(memory_request).set_memory_limit(memory_limit)
    kubernetes.set_timeout(task, int(needs.hours * 3600))
    # The root file system may be read-only, so /tmp is a volume; a step that overfills it is evicted, not the node.
    kubernetes.empty_dir_mount(task, "tmp", "/tmp", size_limit=needs.disk)
    for name in needs.secrets:
        variables = {variable: variable for variable in SECRET_VARIABLES[name]}
        kubernetes.use_secret_as_env(task, secrets[name], variables, optional=True)
    if "google" in needs.secrets:
        kubernetes.use_secret_as_volume(task, secrets["google"], GOOGLE_MOUNT, optional=True)
