"""Errors whose text is meant for the user: what is wrong and what to do."""

import contextlib
import errno
import sys
from collections.abc import Iterator

from components.shared.display import one_line


class PipelineError(Exception):
    """A mistake in the input or the environment that a rerun with the same input will meet again."""


class TransientError(PipelineError):
    """A fault that may pass: a retry of the step can help."""


class Stopped(TransientError):
    """Somebody told the process to stop: it goes on when it is started again, and not before."""


class MayPass(SystemExit):
    """The exit of a step that failed with a TransientError."""


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Turns a PipelineError into the step's last line (`error: ...`) and exit status 1, without a traceback.

    Raises:
        MayPass: as SystemExit, where it was a TransientError; components/step.py tries again then.
    """
    try:
        yield
    except Stopped as error:
        _fail(str(error))
    except TransientError as error:
        _fail(str(error), MayPass)
    except PipelineError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _fail(f"the disk is full ({error.filename or error}): free some space and start the step again")
    except KeyboardInterrupt:
        _fail("interrupted")


def _fail(message: str, end: type[SystemExit] = SystemExit) -> None:
    print(f"error: {one_line(message)}", file=sys.stderr, flush=True)
    raise end(1)
