"""TensorBoard that ends when it can no longer read: python -m components.tensorboard --logdir URI --port 6006

TensorBoard reads in a thread of its own, which dies if the store does not answer once. The page then stays as it is for
good, or empty, and looks healthy to every probe. A process that has ended is started again.
"""

import os
import sys
import threading

_READER = "Reloader"  # TensorBoard's name for the thread


def main() -> None:
    """Runs TensorBoard with its own command line."""
    from tensorboard.main import run_main

    threading.excepthook = _end
    run_main()


def _end(failure: threading.ExceptHookArgs) -> None:
    if failure.thread is None or failure.thread.name != _READER:
        threading.__excepthook__(failure)
        return
    print(f"error: the logs cannot be read: {failure.exc_value!r}; start again", file=sys.stderr, flush=True)
    os._exit(1)  # sys.exit would end this thread only


if __name__ == "__main__":
    main()
