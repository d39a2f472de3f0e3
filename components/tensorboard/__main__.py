"""TensorBoard that ends when it can no longer read: python -m components.tensorboard --port 6006 [--logdir URI]

Without --logdir it shows all runs of a cluster's namespace: the environment says where they are (`runs_folder`).

TensorBoard reads in a thread of its own, which dies if the store does not answer once. The page then stays as it is for
good, or empty, and looks healthy to every probe. A process that has ended is started again.
"""

import os
import sys
import threading
from collections.abc import Mapping

from components.shared.errors import reported
from components.shared.storage.access import kfp_store

_READER = "Reloader"  # TensorBoard's name for the thread
# Where Kubeflow Pipelines keeps artifacts unless `kfp-launcher` names another root.
_KFP_ROOT = "minio://mlpipeline/v2/artifacts"
_PIPELINE = "museum-classifier"


def main() -> None:
    """Runs TensorBoard with its own command line."""
    if not any(argument.startswith("--logdir") for argument in sys.argv[1:]):
        with reported():
            sys.argv.append(f"--logdir={runs_folder(os.environ)}")
    from tensorboard.main import run_main  # it reads S3_ENDPOINT while it is imported

    threading.excepthook = _end
    run_main()


def runs_folder(environment: Mapping[str, str]) -> str:
    """The folder of the pipeline's runs, as TensorBoard takes it: LOG_DIR, or else below the namespace's pipeline root.

    A profile of a full Kubeflow has a root of its own, which `kfp-launcher` names (PIPELINE_ROOT). TensorBoard knows a
    minio:// store as s3:// at S3_ENDPOINT, which is set here unless it is given.

    Raises:
        StorageError: the store that Kubeflow Pipelines brought is not found.
    """
    root = environment.get("PIPELINE_ROOT") or _KFP_ROOT
    found = environment.get("LOG_DIR") or f"{root.rstrip('/')}/{_PIPELINE}"
    scheme, _, rest = found.partition("://")
    if scheme != "minio":
        return found
    if not environment.get("S3_ENDPOINT"):
        os.environ["S3_ENDPOINT"] = f"http://{kfp_store()}"
    return f"s3://{rest}"


def _end(failure: threading.ExceptHookArgs) -> None:
    if failure.thread is None or failure.thread.name != _READER:
        threading.__excepthook__(failure)
        return
    print(f"error: the logs cannot be read: {failure.exc_value!r}; start again", file=sys.stderr, flush=True)
    os._exit(1)  # sys.exit would end this thread only


if __name__ == "__main__":
    main()
