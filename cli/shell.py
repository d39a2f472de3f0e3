"""Commands as a person can paste them into the shell that they are in."""

import os
import shlex
import shutil
import sys
from pathlib import Path

_SCRIPT = Path(__file__).resolve().parent.parent / "pipeline.py"


def command(*arguments: str) -> str:
    """The command line `pipeline.py ARGUMENTS`, with the interpreter that runs now, for a shell in this folder."""
    active = shutil.which("python")
    # The folder tells environments apart; what the link in it leads to does not.
    same = active is not None and Path(active).absolute().parent == Path(sys.executable).absolute().parent
    words = ["python" if same else relative(sys.executable), relative(str(_SCRIPT)), *arguments]
    return shlex.join(words)


def relative(path: str) -> str:
    """The path from here, where it lies below; else as it is."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
