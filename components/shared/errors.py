"""Errors whose text is meant for the user: what is wrong and what to do."""

import contextlib
import errno
import sys
from typing import Iterator


class PipelineError(Exception):
    """A mistake in the input or the surroundings that a rerun with the same input will meet again."""


class TransientError(PipelineError):
    """A fault that may pass: a retry of the step can help."""


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Turns a PipelineError into the step's last line (`error: ...`) and exit status 1, without a traceback."""
    try:
        yield
    except PipelineError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _fail(f"the disk is full ({error.filename or error}): free some space and start the step again")
    except KeyboardInterrupt:
        _fail("interrupted")


def _fail(message: str) -> None:
    print("error: " + " ".join(message.split()), file=sys.stderr, flush=True)
    raise SystemExit(1)
