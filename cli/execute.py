"""Executes one run through kfp.local, in a process of its own: `python -m cli.execute RUN_FOLDER`.

`cli.local_run` starts it in a session of its own, reads its output and can end it with everything it started.
"""

import logging
import os
import signal
import sys
import threading
import warnings
from pathlib import Path

from cli import events, resume, runs
from components.shared.errors import reported


def execute(run: runs.Run) -> None:
    """Runs the graph with the run's parameters; finished tasks of an earlier try come from the run's cache."""
    from kfp import dsl, local
    from kfp.local import executor_input_utils, placeholder_utils

    import pipeline

    # kfp names the folder by the time; one fixed name lets a resumed step find what it had begun.
    executor_input_utils.get_local_pipeline_resource_name = lambda _: run.artifacts.name
    # kfp.local fills in any placeholder but this one.
    created, resolve = run.folder.name, placeholder_utils.resolve_individual_placeholder
    placeholder_utils.resolve_individual_placeholder = lambda element, **known: resolve(
        element.replace(dsl.PIPELINE_JOB_CREATE_TIME_UTC_PLACEHOLDER, created), **known
    )
    # It warns that resources and images mean nothing here. That is so.
    warnings.filterwarnings("ignore", category=UserWarning, module="kfp")
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="kfp")
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)  # cache hits are told only so
    # kfp logs to the root logger, in the thread that starts and ends the task: its only hook.
    logging.getLogger().addFilter(_guard())
    logging.getLogger().addFilter(_renewal(run))
    if "ARTIFACT_STORE_ROOT" in os.environ:
        logging.getLogger().addFilter(_mirror(run))
    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=str(run.folder),
        enable_caching=True,
        cache_root=str(run.cache),
    )
    pipeline.pipeline(**run.summary["parameters"])


def _guard():
    """A log filter that lets the tasks in hand end after SIGTERM, and no further one start.

    A task that fails ends those beside it: kfp would wait for them, and for the further shards, before it says so.
    """
    ending = threading.Event()
    # A handler, not SIG_IGN: the steps must not inherit it, they end (or write their checkpoint) by themselves.
    signal.signal(signal.SIGTERM, lambda *_: ending.set())

    def refuse(record: logging.LogRecord) -> bool:
        event = events.parse(record.getMessage())
        if ending.is_set() and event and event.kind == "started":
            raise RuntimeError("interrupted")
        if event and event.kind == "failed" and not ending.is_set():
            ending.set()
            if os.getpgrp() == os.getpid():  # the group is this run's own: cli.local_run started it so
                os.killpg(0, signal.SIGTERM)
        return True

    return refuse


def _renewal(run: runs.Run):
    """A log filter that takes back what follows query when a resumed run's query starts: its source has changed.

    kfp's cache would not notice: its keys hold the URIs and the metadata of artifacts, not what is in them.
    """

    def take_back(record: logging.LogRecord) -> bool:
        event = events.parse(record.getMessage())
        if event and event.kind == "started" and event.task == "query":
            resume.take_back(run, "fetch")
        return True

    return take_back


def _mirror(run: runs.Run):
    """A log filter that copies a task's outputs to the store when kfp says it ended: before the next one starts."""
    from components.shared.storage import storage

    copied: set[Path] = set()
    lock = threading.Lock()

    def copy(record: logging.LogRecord) -> bool:
        event = events.parse(record.getMessage())
        if event and event.kind == "succeeded":
            with lock:
                # This file is the last that a task writes: the folders of tasks that still run change under our hands.
                for folder in {path.parent for path in run.artifacts.rglob("executor_output.json")} - copied:
                    storage.mirror(str(folder), storage.published_uri(str(folder)))
                    copied.add(folder)
        return True

    return copy


if __name__ == "__main__":
    try:
        with reported():  # a full disk, where kfp itself writes
            execute(runs.open_run(Path(sys.argv[1])))
    except RuntimeError as error:
        sys.exit(str(error))
