"""A training worker: python -m components.train.worker --settings FILE --dataset DIR --output DIR --checkpoints URI"""

import argparse
import os
import signal
import sys

from components.shared.errors import reported
from components.shared.storage import storage
from components.train.settings import Settings
from components.train.worker.interruption import Preempted
from components.train.worker.training import run


def main() -> int:
    """Runs the worker; the exit status is 0 (done), 1 (user error) or 75 (preempted: start it again)."""
    parser = argparse.ArgumentParser(prog="python -m components.train.worker", description=__doc__)
    parser.add_argument("--settings", required=True, help="path or URI of what Settings.save wrote; one model name")
    parser.add_argument("--dataset", required=True, help="folder or URI with dataset.json")
    parser.add_argument("--output", required=True, help="folder or URI; the chief exports the classifier into it")
    parser.add_argument("--checkpoints", required=True, help="folder or URI of the checkpoints")
    arguments = parser.parse_args()
    # It waits until `run` listens: a container's first process would not hear it at all.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        with reported():
            settings = Settings.from_json(storage.read_bytes(arguments.settings).decode())
            run(settings, arguments.dataset, arguments.output, arguments.checkpoints)
    except Preempted as stop:
        print(f"preempted: {stop}", flush=True)
        return os.EX_TEMPFAIL
    return 0


if __name__ == "__main__":
    sys.exit(main())
