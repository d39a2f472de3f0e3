"""One worker's training, from data set to exported classifier. TensorFlow is imported only when it runs."""

import os
import tempfile
from collections.abc import Callable

from components.artifacts import dataset as datasets
from components.shared.errors import PipelineError
from components.shared.storage import storage
from components.train.result import RESULT, TrainingResult
from components.train.settings import Settings
from components.train.worker.interruption import Preempted, StopRequest


def run(settings: Settings, dataset: str, output: str, checkpoints: str) -> TrainingResult:
    """Trains `settings.model` on the data set (a folder or URI with dataset.json) and exports it into `output`.

    Every worker of a cluster (TF_CONFIG) calls it alike; the chief exports and writes `result.json`. `checkpoints` is
    a URI: a run that finds a checkpoint there continues at its step with the same order of data.

    Raises:
        PipelineError: a mistake of the user, in one line.
        Preempted: SIGTERM came, or another worker was lost; a checkpoint was written, the same call continues.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if settings.precision == "onednn_bf16":
        os.environ["ONEDNN_DEFAULT_FPMATH_MODE"] = "BF16"  # read once, when TensorFlow's first operation runs
    with StopRequest() as stop, tempfile.TemporaryDirectory(prefix="records-") as folder:
        info = datasets.load(dataset)
        import tensorflow as tf

        from components.train.worker import export, loop, session

        try:
            opened = session.open_session(settings, info, checkpoints, folder, stop)
            outcome = loop.train(opened)
            return _to_store(lambda path: export.export(outcome, path), output)
        except tf.errors.ResourceExhaustedError as error:
            raise PipelineError(
                f"out of memory with model={settings.model}, batch_size={settings.batch_size} and "
                f"image_size={info.stored_size}: {settings.less_memory(info.stored_size)}"
            ) from error
        except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
            if settings.workers == 1:
                raise
            raise Preempted(f"another worker was lost ({error.message.splitlines()[0][:200]})") from error


def _to_store(export: Callable[[str], TrainingResult], output: str) -> TrainingResult:
    """Has `export` write into a local folder, and copies that to `output` if it is elsewhere."""
    path = storage.local_path(output)
    if path is not None:
        os.makedirs(path, exist_ok=True)
        return export(path)
    with tempfile.TemporaryDirectory(prefix="classifier-") as folder:
        result = export(folder)
        files = storage.list_files(folder)
        # The launcher takes result.json as the sign that everything is there.
        for file in sorted(files, key=lambda file: file.uri.endswith(RESULT)):
            storage.upload(file.uri, storage.join(output, os.path.relpath(file.uri, folder)))
    return result
