"""TensorBoard events while training runs: to a local folder, or copied to the store every few seconds."""

import os
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import api as hparams
from tensorboard.plugins.scalar.summary_v2 import scalar_pb

from components.shared.display import plot_text
from components.shared.storage import storage

UPLOAD_SECONDS = 15.0
ROTATE_BYTES = 1 << 20  # a store cannot append: a file is copied whole each time
PROFILE_REQUEST = "profile-request"
PROFILED_STEPS = 5


class EventLog:
    """Writes the events of one training to the URI `uri`, on the chief only; use it as a context manager.

    TensorFlow can append to local files only, so for a remote URI the files are written locally and copied there by a
    thread, and a new file is begun when one has grown to ROTATE_BYTES. TensorBoard is no reason to fail a training:
    an upload that fails is tried again with the next one, and the last one only leaves a warning.

    `step` is where the training goes on: TensorBoard then drops what an interrupted attempt wrote of later steps.

    A profile on demand: put an empty file `profile-request` into the folder, and the next PROFILED_STEPS steps are
    profiled.
    """

    def __init__(self, uri: str, chief: bool = True, step: int = 0) -> None:
        self._uri, self._active = uri, chief
        self._local = storage.local_path(uri) if chief else None
        self._temporary = None if self._local else tempfile.TemporaryDirectory(prefix="events-")
        self._folder = self._temporary.name if self._temporary else str(self._local)
        os.makedirs(self._folder, exist_ok=True)
        self._writer = self._new_writer()
        self._uploaded: dict[str, int] = {}
        self._full: set[str] = set()
        self._rotate = False
        self._profiling_until = 0
        self._profile_wanted = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="events", daemon=True)
        if chief:
            self._start_session(step + 1)

    def __enter__(self) -> "EventLog":
        if self._active:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self.profiling:
                self._end_profile()
            self._writer.close()
            if self._active:
                self._closing.set()
                self._thread.join()
                self._upload()
        except Exception as error:  # It must not take the place of the error that ended the training, or be one.
            print(f"warning: the last TensorBoard events are not in {self._uri}: {error}", flush=True)
        finally:
            if self._temporary:
                self._temporary.cleanup()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes `values` by tag (`epoch/validation_accuracy`)."""
        summary = summary_pb2.Summary()
        for tag, value in values.items():
            summary.MergeFrom(scalar_pb(tag, value))
        # One operation for all of them: a step on cached features takes less time than six.
        with self._at(step):
            tf.summary.experimental.write_raw_pb(summary.SerializeToString())

    def images(self, step: int, tag: str, images: np.ndarray, most: int = 16) -> None:
        """Writes up to `most` images [n, h, w, 3] uint8."""
        with self._at(step):
            tf.summary.image(tag, images, max_outputs=most)

    def text(self, step: int, tag: str, markdown: str) -> None:
        """Writes a text that TensorBoard shows as Markdown."""
        with self._at(step):
            tf.summary.text(tag, markdown)

    def graph(self, graph: tf.Graph) -> None:
        """Writes the graph of a tf.function; TensorBoard shows the last one."""
        with self._at(0):
            tf.summary.graph(graph)

    def hyper_parameters(self, values: Mapping[str, Any]) -> None:
        """Writes `values` for the hparams plugin, which compares the trainings below one log folder."""
        with self._at(0):
            hparams.hparams(dict(values))

    def flush(self) -> None:
        """Makes everything that was written visible to a TensorBoard that reads the local folder."""
        self._writer.flush()

    @property
    def profiling(self) -> bool:
        """Whether steps are being profiled."""
        return self._profiling_until > 0

    def before_step(self, step: int) -> None:
        """Starts or ends a profile that was asked for."""
        if self._profile_wanted:
            self._profile_wanted = False
            tf.profiler.experimental.start(self._folder)
            self._profiling_until = step + PROFILED_STEPS
            print(f"profiling steps {step} to {self._profiling_until - 1}", flush=True)
        elif self._profiling_until and step >= self._profiling_until:
            self._end_profile()

    def _at(self, step: int):
        """The context in which events are written, into a new file if the old one is large."""
        if self._rotate:
            self._rotate = False
            self._writer.close()
            self._writer = self._new_writer()
        return self._writer.as_default(step)

    def _new_writer(self) -> tf.summary.SummaryWriter:
        return tf.summary.create_file_writer(self._folder) if self._active else tf.summary.create_noop_writer()

    def _start_session(self, step: int) -> None:
        """TensorBoard takes any such event but the first of a log as a restart, and drops what is not before `step`."""
        start = event_pb2.Event(
            wall_time=time.time(), step=step, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        )
        tf.raw_ops.ImportEvent(writer=self._writer._resource, event=start.SerializeToString())

    def _end_profile(self) -> None:
        tf.profiler.experimental.stop()
        self._profiling_until = 0

    def _watch(self) -> None:
        request = storage.join(self._uri, PROFILE_REQUEST)
        answered = False
        while not self._closing.wait(2.0 if self._local else UPLOAD_SECONDS):
            try:
                asked = storage.exists(request)
                self._profile_wanted |= asked and not answered
                answered = asked
                self._upload()
            except Exception as error:  # A store that is away for a moment.
                print(f"warning: TensorBoard events are not copied to {self._uri} yet: {error}", flush=True)

    def _upload(self) -> None:
        if self._local:
            return
        for folder, _, names in os.walk(self._folder):
            for name in names:
                path = os.path.join(folder, name)
                size = os.path.getsize(path)
                if self._uploaded.get(path) != size:
                    storage.upload(path, storage.join(self._uri, os.path.relpath(path, self._folder)))
                    self._uploaded[path] = size
                if size > ROTATE_BYTES and "tfevents" in name and path not in self._full:
                    self._full.add(path)
                    self._rotate = True


def confusion_image(matrix: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """The confusion `matrix` [classes, classes] (rows: true) as an image [1, h, w, 3] uint8, rows as shares."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    side = min(4 + 0.3 * len(labels), 14)
    figure = Figure((side + 1, side), dpi=90, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    # The number too: the font that draws this has no Chinese, Arabic or Devanagari.
    names = [f"{number} {plot_text(label)}" for number, label in enumerate(labels)]
    axes.set_xticks(range(len(labels)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(labels)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(labels) <= 20:
        for (row, column), share in np.ndenumerate(shares):
            axes.text(
                column,
                row,
                str(matrix[row, column]),
                ha="center",
                va="center",
                color="white" if share > 0.5 else "black",
            )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[None, ..., :3].copy()
