"""Whether this Python can run the project: looked at before anything else is imported, by any Python 3 there is."""

import configparser
import os
import shlex
import sys
from importlib import metadata

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OLDEST, NEWEST = (3, 11), (3, 13)


def require():
    """Ends the process with one line if there is a problem."""
    if problem():
        print("error: " + problem(), file=sys.stderr)
        sys.exit(2)


def problem():
    """One line that says what is wrong and what to do; empty if nothing is. (No annotations: old Pythons read this.)"""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        return "{} is Python {}.{}, and 3.11, 3.12 or 3.13 is needed: {}".format(
            sys.executable, sys.version_info[0], sys.version_info[1], _remedy()
        )
    for requirement in _requirements():
        name, exact, wanted = requirement.partition("==")
        name = name.partition(">")[0]
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            return "{} is not installed for {}: {}".format(name, sys.executable, _remedy())
        if exact and found != wanted:
            return "{} {} is installed for {}, and {} is needed: {}".format(
                name, found, sys.executable, wanted, _remedy()
            )
    return ""


def _requirements():
    """What setup.cfg says is needed to compile the pipeline and to drive a run."""
    config = configparser.ConfigParser()
    config.read(os.path.join(ROOT, "setup.cfg"), encoding="utf-8")
    lines = config.get("options", "install_requires", fallback="").split("\n")
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def _remedy():
    own = os.path.join(ROOT, ".venv", "bin", "python")
    # The link in an environment, not the Python that it leads to, tells environments apart.
    if os.path.exists(own) and os.path.abspath(sys.executable) != own:
        activate = os.path.join(os.path.dirname(own), "activate")
        python, script, activate = (
            shlex.quote(os.path.relpath(path)) for path in (own, os.path.join(ROOT, "pipeline.py"), activate)
        )
        return "use {} {} ..., or first: . {}".format(python, script, activate)
    return "make run makes an environment and runs the sample in it (PYTHON=python3.12 chooses the Python)"
